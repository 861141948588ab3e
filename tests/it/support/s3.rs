//! A stand-in for S3: ListObjectsV2 as S3 answers it, over as many keys as memory holds, with the troubles of a real one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use postern::clock::UnixMillis;
use tokio::net::TcpListener;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

/// What happens to one request instead of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 403.
    AccessDenied,
    /// The XML ends in the middle, as if that were all.
    CutXml,
    /// The same, of the next page that is not the first.
    CutLaterXml,
    /// The page's keys stand in the order of their UTF-16 units.
    Disorder,
    /// A whole listing of nothing.
    Empty,
    /// 404.
    NoSuchBucket,
    /// The connection breaks without an answer.
    Reset,
    /// 503.
    SlowDown,
}

#[derive(Clone, Debug)]
struct Object {
    e_tag: String,
    modified: UnixMillis,
}

/// A running stand-in with one bucket of every name; it ends with its runtime.
#[derive(Clone, Debug)]
pub(crate) struct S3 {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// Read by each answer, written while the world changes.
    world: Arc<RwLock<()>>,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<String, Object>,
    faults: VecDeque<Fault>,
    always: Option<Fault>,
    /// Whether tokens are understood; a store may forget them.
    forgets_tokens: bool,
    encodes: bool,
    /// Whether a marker is compared with keys as they are encoded in the answer, as LocalStack does.
    compares_encoded: bool,
    /// Whether a page tells after what it begins, as Ceph's do.
    repeats_markers: bool,
    requests: u64,
    /// Complete listings of everything, told by their last page.
    walks: u64,
}

impl S3 {
    /// Starts one with no objects.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(Mutex::new(State {
            objects: BTreeMap::new(),
            faults: VecDeque::new(),
            always: None,
            forgets_tokens: false,
            encodes: true,
            compares_encoded: false,
            repeats_markers: false,
            requests: 0,
            walks: 0,
        }));
        let world = Arc::new(RwLock::new(()));
        let (shared, open) = (Arc::clone(&state), Arc::clone(&world));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared), Arc::clone(&open)));
            }
        });
        Self { address, state, world }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no handler panicked")
    }

    /// `http://host:port`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets no request be answered until what this gives is dropped: what happens meanwhile happens at once.
    pub(crate) async fn hold(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.world).write_owned().await
    }

    /// Writes an object.
    pub(crate) fn put(&self, key: &str, e_tag: &str, modified: UnixMillis) {
        self.state().objects.insert(key.to_owned(), Object { e_tag: e_tag.to_owned(), modified });
    }

    /// Removes an object.
    pub(crate) fn delete(&self, key: &str) {
        self.state().objects.remove(key).expect("an object");
    }

    /// Removes all objects.
    pub(crate) fn clear(&self) {
        self.state().objects.clear();
    }

    /// What the next requests meet, one each.
    pub(crate) fn faults(&self, faults: &[Fault]) {
        self.state().faults.extend(faults);
    }

    /// What every request meets from now on.
    pub(crate) fn always(&self, fault: Option<Fault>) {
        self.state().always = fault;
    }

    /// From now on no continuation token is understood, also not one that was just given.
    pub(crate) fn forget_tokens(&self, forgets: bool) {
        self.state().forgets_tokens = forgets;
    }

    /// Whether `encoding-type` is known.
    pub(crate) fn encodes(&self, encodes: bool) {
        self.state().encodes = encodes;
    }

    /// From now on a page that begins after a marker lists the keys whose encoded form is greater than it; LocalStack does so.
    pub(crate) fn compare_encoded(&self) {
        self.state().compares_encoded = true;
    }

    /// From now on a page tells after what it begins, as it is.
    pub(crate) fn repeat_markers(&self) {
        self.state().repeats_markers = true;
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.state().requests
    }

    /// Last pages so far.
    pub(crate) fn walks(&self) -> u64 {
        self.state().walks
    }
}

async fn serve(stream: tokio::net::TcpStream, state: Arc<Mutex<State>>, world: Arc<RwLock<()>>) {
    // An error of the service ends the connection without an answer.
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (state, world) = (Arc::clone(&state), Arc::clone(&world));
        async move {
            let _open = world.read().await;
            let answer = state.lock().expect("no handler panicked").answer(request.uri());
            answer.ok_or_else(|| std::io::Error::other("the connection is to break"))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl State {
    fn answer(&mut self, uri: &hyper::Uri) -> Option<Response<Full<Bytes>>> {
        self.requests += 1;
        let query: HashMap<String, String> =
            url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()).into_owned().collect();
        let is_first = !query.contains_key("continuation-token") && !query.contains_key("start-after");
        let waits = self.faults.front() == Some(&Fault::CutLaterXml) && is_first;
        let fault = if waits { None } else { self.faults.pop_front() }.or(self.always);
        let error = |status: StatusCode, code: &str| {
            let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
            let mut response = Response::new(Full::from(body));
            *response.status_mut() = status;
            response
        };
        match fault {
            Some(Fault::AccessDenied) => return Some(error(StatusCode::FORBIDDEN, "AccessDenied")),
            Some(Fault::NoSuchBucket) => return Some(error(StatusCode::NOT_FOUND, "NoSuchBucket")),
            Some(Fault::SlowDown) => return Some(error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
            Some(Fault::Reset) => return None,
            Some(Fault::CutXml | Fault::CutLaterXml | Fault::Disorder | Fault::Empty) | None => {}
        }
        if query.contains_key("continuation-token") && self.forgets_tokens {
            return Some(error(StatusCode::BAD_REQUEST, "InvalidArgument"));
        }
        let mut page = self.page(&query, fault);
        if matches!(fault, Some(Fault::CutXml | Fault::CutLaterXml)) {
            // In the middle of the objects, and IsTruncated, which stands before them, says that there are no more.
            page = page.replace("<IsTruncated>true", "<IsTruncated>false");
            page.truncate(page.len() * 2 / 3);
        }
        Some(Response::new(Full::from(page)))
    }

    fn page(&mut self, query: &HashMap<String, String>, fault: Option<Fault>) -> String {
        let text = |name: &str| query.get(name).map_or("", String::as_str);
        let (prefix, size) = (text("prefix"), text("max-keys").parse().unwrap_or(1000));
        let after = query.get("continuation-token").or_else(|| query.get("start-after")).map_or("", String::as_str);
        let encodes = self.encodes && text("encoding-type") == "url";
        let coded = |key: &str| {
            if encodes { utf8_percent_encode(key, NON_ALPHANUMERIC).to_string() } else { key.replace('&', "&amp;") }
        };
        let left_out = |key: &str| encodes && self.compares_encoded && coded(key).as_str() <= after;
        let from = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let rest = self.objects.range::<str, _>((from, Bound::Unbounded));
        let most = if fault == Some(Fault::Empty) { 0 } else { size + 1 };
        let rest = rest.take_while(|(key, _)| key.starts_with(prefix)).filter(|(key, _)| !left_out(key));
        let mut objects: Vec<_> = rest.take(most).collect();
        let truncated = objects.len() > size;
        objects.truncate(size);
        let next = objects.last().map_or("", |(key, _)| key.as_str()).to_owned();
        if fault == Some(Fault::Disorder) {
            objects.sort_by_key(|(key, _)| key.encode_utf16().collect::<Vec<_>>());
        }
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <IsTruncated>{truncated}</IsTruncated>"
        );
        for (key, object) in &objects {
            write!(
                xml,
                "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{}&quot;</ETag><Size>7</Size>\
                 <StorageClass>STANDARD</StorageClass></Contents>",
                coded(key),
                object.modified.to_iso_millis(),
                object.e_tag
            )
            .expect("to memory");
        }
        if encodes {
            xml.push_str("<EncodingType>url</EncodingType>");
        }
        if self.repeats_markers && !after.is_empty() {
            write!(xml, "<StartAfter>{}</StartAfter>", after.replace('&', "&amp;")).expect("to memory");
        }
        if truncated {
            write!(xml, "<NextContinuationToken>{}</NextContinuationToken>", next.replace('&', "&amp;"))
                .expect("to memory");
        } else if fault.is_none() {
            self.walks += 1;
        }
        write!(xml, "<KeyCount>{}</KeyCount></ListBucketResult>", objects.len()).expect("to memory");
        xml
    }
}
