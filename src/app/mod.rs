//! The only wiring: [`bind`] opens the store and the sockets, [`App::run`] runs everything until it is told to end.
//!
//! Sockets are bound and the store is locked before anything runs, so that a start that cannot succeed fails at once, with the
//! reason, and a start that succeeded can be asked for its addresses.

#[cfg(feature = "aws")]
mod accounts;
mod announce;
mod ending;
#[cfg(feature = "aws")]
mod fetching;
mod parts;
#[cfg(feature = "aws")]
mod validate;

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use crate::admin::{self, Admin};
use crate::clock::{Clock, ClockSkew, SystemClock};
#[cfg(feature = "aws")]
use crate::config::Instance;
use crate::config::{self, Config, Environment};
use crate::dispatch::worker::Dispatcher;
use crate::egress::{self, Client};
use crate::health::Health;
use crate::listener::{self, Listener, Source};
use crate::queue::embedded::{self, Embedded};
use crate::queue::{Queue, QueueError};
use crate::secret::Secret;
use crate::shutdown::{self, Phase, Shutdown};
use crate::sources::intake::Desk;
use crate::sources::sns::certs::{CertificateStore, Fetch};
use crate::sources::sns::confirm::Confirmer;
use crate::sources::sns::source::SnsSource;
use crate::sources::sns::verifier::Verifier;
use crate::telemetry::Metrics;

pub use ending::Ending;

/// Why the sidecar could not start. The text says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An authority file is not usable.
    #[cfg(feature = "aws")]
    #[error(transparent)]
    Authorities(#[from] crate::aws::BadAuthorities),
    /// A file of authorities is of no use; the text names its setting.
    #[error("{0}")]
    AuthorityFile(String),
    /// The admin socket could not be bound.
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// The intake socket could not be bound.
    #[error(transparent)]
    Bind(#[from] listener::BindError),
    /// Outgoing HTTP could not be set up.
    #[error(transparent)]
    Egress(#[from] egress::OptionsError),
    /// A file named by a setting could not be read.
    #[error("{variable}: {path} cannot be read ({cause}); check the path and its permissions")]
    File {
        /// Name of the setting.
        variable: &'static str,
        /// The file.
        path: String,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] embedded::OpenError),
    /// The store could not be read.
    #[error("the store cannot be read: {0}")]
    Store(#[from] QueueError),
    /// The listener's certificate is not usable.
    #[error(transparent)]
    Tls(#[from] listener::tls::TlsError),
    /// The trust anchor is not usable.
    #[error("POSTERN_SNS_TRUST_ANCHOR_FILE: {0}")]
    TrustAnchor(String),
}

/// A part of the sidecar ended although nobody told it to.
#[derive(Debug, thiserror::Error)]
#[error("{0} ended unexpectedly")]
pub struct RunError(&'static str);

/// A sidecar whose sockets and store are open.
pub struct App {
    config: Config,
    health: Arc<Health>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    queue: Arc<Embedded>,
    tls: Option<listener::tls::TlsAcceptorHandle>,
    intake: Listener,
    admin: Admin,
    admin_socket: admin::Listener,
    certificates: CertificateStore,
    confirmer: Arc<Confirmer>,
    /// `None` where no instance has a topic: nobody is to knock there then.
    source: Option<Arc<SnsSource>>,
    secret_routes: Vec<(Secret, Arc<dyn Source>)>,
    #[cfg(feature = "aws")]
    fetching: Vec<fetching::Fetching>,
    dispatcher: Dispatcher,
    #[cfg(feature = "aws")]
    to_validate: Vec<(Arc<Instance>, crate::aws::Aws)>,
}

/// Opens everything that can fail at start.
///
/// # Errors
/// [`StartError`] with what to do about it.
pub async fn bind(config: Config) -> Result<App, StartError> {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let health = Arc::new(Health::default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);

    let tls = config.tls.as_ref().map(listener::tls::load).transpose()?;
    let intake = listener::bind(config.listen).await?;
    let admin_socket = admin::bind(config.admin_listen).await?;

    let names: Vec<Arc<str>> = config.instances.iter().map(|i| Arc::clone(&i.name)).collect();
    let queue = Arc::new(embedded::open(&config.data_dir, &config.queue, &names, Arc::clone(&clock), metrics.clone())?);
    let shared: Arc<dyn Queue> = Arc::clone(&queue) as Arc<dyn Queue>;

    let client = Client::new(parts::egress_options(&config)?)?;
    let skew = Arc::new(ClockSkew::default());
    let certificates = parts::certificates(&config, &client, &clock, &skew, &metrics, &health)?;
    let verifier =
        Arc::new(Verifier::new(parts::policy(&config), certificates.clone(), Arc::clone(&clock), Arc::clone(&skew)));
    let topics: Vec<String> = config.instances.iter().filter(|i| i.enabled).flat_map(|i| i.topics.clone()).collect();
    let confirmer = Arc::new(
        Confirmer::new(
            Arc::clone(&shared),
            Arc::new(parts::caller(&config, &client)?),
            config.sns.confirm,
            config.sns.unsubscribe,
            &topics,
            Arc::clone(&clock),
            metrics.clone(),
            Arc::clone(&health),
        )
        .await?,
    );
    let desk = Arc::new(Desk::new(Arc::clone(&shared), metrics.clone(), config.sns.non_s3, config.dispatch.format));
    // Also for a topic whose instances are all switched off: its messages are refused there, and to SNS a 404 would be another story.
    let source = config.instances.iter().any(|i| !i.topics.is_empty()).then(|| {
        Arc::new(SnsSource::new(
            &config.instances,
            Arc::clone(&verifier),
            Arc::clone(&confirmer),
            Arc::clone(&desk),
            config.sns.basic.clone(),
            parts::dialect(&config),
            Arc::clone(&clock),
        ))
    });
    let secret_routes = parts::secret_routes(&config, &desk, &clock, source.as_ref());
    #[cfg(feature = "aws")]
    let fetching = fetching::all(
        &config,
        &parts::egress_options(&config)?.extra_ca_pem,
        &fetching::Shared {
            verifier,
            desk,
            clock: Arc::clone(&clock),
            metrics: metrics.clone(),
            health: Arc::clone(&health),
        },
    )?;
    let dispatcher = Dispatcher::new(
        &config.dispatch,
        &config.instances,
        Arc::clone(&shared),
        // The anchor of another SNS vouches for that SNS, not for callbacks.
        Client::new(parts::callback_options(&config)?)?,
        Arc::clone(&clock),
        metrics.clone(),
        Arc::clone(&health),
    );
    let admin = Admin {
        queue: shared,
        health: Arc::clone(&health),
        registry: Arc::new(registry),
        metrics: metrics.clone(),
        instances: config.instances.clone(),
        token: config.admin_token.clone(),
        clock: Arc::clone(&clock),
    };
    #[cfg(feature = "aws")]
    let to_validate = validate::all(&config, &parts::egress_options(&config)?.extra_ca_pem)?;
    Ok(App {
        #[cfg(feature = "aws")]
        to_validate,
        config,
        health,
        metrics,
        clock,
        queue,
        tls,
        intake,
        admin,
        admin_socket,
        certificates,
        confirmer,
        source,
        secret_routes,
        #[cfg(feature = "aws")]
        fetching,
        dispatcher,
    })
}

/// Fetching for a command that runs beside the sidecar: through the proxies and with the authorities that it would use.
///
/// # Errors
/// [`StartError`] when the settings of outgoing HTTP are not usable.
pub fn outgoing(env: &dyn Environment) -> Result<Arc<dyn Fetch>, StartError> {
    let options = parts::options(config::egress_files(env))?;
    Ok(Arc::new(parts::EgressFetch(Client::new(options)?)))
}

impl App {
    /// Address of the intake; port 0 is resolved.
    pub fn intake_addr(&self) -> SocketAddr {
        self.intake.address()
    }

    /// Address of the admin listener; port 0 is resolved.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_socket.address()
    }

    /// Runs until `endings` says to end, then shuts down in phases (hard case 18).
    ///
    /// # Errors
    /// [`RunError`] when a part ended by itself; the rest was shut down in order.
    pub async fn run(self, endings: mpsc::Receiver<Ending>) -> Result<(), RunError> {
        let (conductor, shutdown) = shutdown::channel();
        announce::announce(
            &self.config,
            self.intake.address(),
            self.admin_socket.address(),
            &self.metrics,
            &self.health,
            &self.queue,
        );
        let progress = self.dispatcher.progress();
        let mut parts = tokio::task::JoinSet::new();

        // What is not ready at a start says so before anybody can ask: the first probe once came in between and was answered 200.
        let verifies_sns = parts::verifies_sns(&self.config);
        if verifies_sns {
            self.certificates.expect_issuers();
        }
        #[cfg(feature = "aws")]
        let mut checks = Vec::new();
        #[cfg(feature = "aws")]
        for (instance, aws) in self.to_validate {
            let queue = Arc::clone(&self.queue) as Arc<dyn Queue>;
            let url = self.config.public_url.as_ref().map(config::sns_url);
            let user = self.config.sns.basic.as_ref().map(|basic| basic.username.clone());
            let asked = validate::Asked { instance, aws, s3: self.config.s3.clone(), url, user };
            checks.push(validate::begin(asked, queue, Arc::clone(&self.health)).await);
        }
        parts.spawn(named("admin", self.admin_socket.serve_apart(self.admin, shutdown.clone())));
        parts.spawn(named("dispatch", self.dispatcher.run(shutdown.clone())));
        parts.spawn(named(
            "listener",
            self.intake.serve(
                self.tls.clone(),
                Arc::new(parts::Routes::new(self.source, self.secret_routes, shutdown.clone())),
                self.metrics.clone(),
                self.config.trusted_proxies.clone(),
                shutdown.clone(),
            ),
        ));
        #[cfg(feature = "aws")]
        for fetching in self.fetching {
            parts.spawn(named(fetching.name(), fetching.run(shutdown.clone())));
        }
        // These end by themselves or with the phases; their end is no failure.
        let mut helpers = tokio::task::JoinSet::new();
        helpers.spawn(Arc::clone(&self.confirmer).run(shutdown.clone()));
        // Where nothing is verified, missing issuers are nobody's trouble: readiness must not wait for them.
        if verifies_sns {
            let certificates = self.certificates.clone();
            helpers.spawn(until_stopping(shutdown.clone(), async move { certificates.prefetch_issuers().await }));
        }
        if let (Some(handle), Some(files)) = (self.tls, self.config.tls.clone()) {
            helpers.spawn(listener::tls::watch(
                handle,
                files,
                listener::tls::RELOAD_INTERVAL,
                Arc::clone(&self.health),
                self.metrics.clone(),
                Arc::clone(&self.clock),
                shutdown.clone(),
            ));
        }
        #[cfg(feature = "aws")]
        for check in checks {
            helpers.spawn(validate::run(check, shutdown.clone()));
        }
        helpers.spawn(parts::watch_store(
            Arc::clone(&self.queue),
            self.config.queue.clone(),
            Arc::clone(&self.health),
            shutdown,
        ));

        let result =
            ending::conduct(&conductor, endings, &mut parts, progress, &self.health, self.config.drain_timeout).await;
        conductor.enter(Phase::Stopping);
        ending::join(parts).await;
        helpers.shutdown().await;
        self.queue.close().await;
        tracing::info!(phase = "stopped", "the store is closed; what is owed is kept");
        result
    }
}

async fn named(name: &'static str, part: impl Future<Output = ()>) -> &'static str {
    part.await;
    name
}

async fn until_stopping(mut shutdown: Shutdown, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = shutdown.reached(Phase::Stopping) => {}
    }
}
