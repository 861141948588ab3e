//! Pure: SigV4 over a request that no SDK of ours makes.

use std::time::SystemTime;

use aws_sdk_sns::config::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};
use url::Url;

use super::setup::Keys;

/// Who signs, and for which service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    pub(super) keys: &'a Keys,
    pub(super) region: &'a str,
    /// The service's name in the scope of the signature, such as `s3`.
    pub(super) service: &'a str,
    /// Signed where it is not empty.
    pub(super) content_type: &'a str,
}

impl Signed<'_> {
    /// The headers that sign a request; `x-amz-content-sha256` is one of them and is signed, as MCS demands.
    ///
    /// # Errors
    /// Why it cannot be signed, without a secret.
    pub(super) fn headers(
        &self,
        method: &Method,
        url: &Url,
        body: &[u8],
        time: SystemTime,
    ) -> Result<HeaderMap, String> {
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let Keys { access_key, secret_key, token } = self.keys;
        let token = token.as_ref().map(|token| token.expose().to_owned());
        let identity = Credentials::new(access_key, secret_key.expose(), token, None, "postern").into();
        let no = |what: String| format!("the request cannot be signed ({what})");
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(time)
            .settings(settings)
            .build()
            .map_err(|error| no(error.to_string()))?
            .into();
        let signed = [("content-type", self.content_type)].into_iter().filter(|(_, value)| !value.is_empty());
        let request = SignableRequest::new(method.as_str(), url.as_str(), signed, SignableBody::Bytes(body));
        let request = request.map_err(|error| no(error.to_string()))?;
        let (instructions, _) = sign(request, &parameters).map_err(|error| no(error.to_string()))?.into_parts();
        let mut headers = HeaderMap::new();
        for (name, value) in instructions.headers() {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| no(error.to_string()))?;
            headers.insert(name, HeaderValue::from_str(value).map_err(|error| no(error.to_string()))?);
        }
        Ok(headers)
    }
}
