//! Where browsers reach a bot that runs as a Lambda: a name in front of its Function URL, known before there is one, as a company's own host
//! name is. It carries requests and answers as they are, and follows nothing.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;

use crate::http::Server;

/// The running front; ends when dropped.
#[derive(Debug)]
pub struct Front {
    url: String,
    target: Target,
    _server: Server,
}

type Target = Arc<OnceLock<(String, reqwest::Client)>>;

impl Front {
    /// Listens on a free loopback port. Nothing is behind it yet.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let target = Target::default();
        let router = Router::new().fallback(carry).with_state(Arc::clone(&target));
        Ok(Self { url, target, _server: Server::spawn(listener, router) })
    }

    /// Its address, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Leads to `url` from now on, whose host is found at `address`.
    ///
    /// # Errors
    /// The address is no URL, or it leads elsewhere already.
    pub fn lead_to(&self, url: &str, address: SocketAddr) -> Result<()> {
        let parsed = reqwest::Url::parse(url).context("the target is no URL")?;
        let host = parsed.host_str().context("the target has no host")?;
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).resolve(host, address).build()?;
        let target = (url.trim_end_matches('/').to_owned(), http);
        self.target.set(target).map_err(|_| anyhow::anyhow!("the front leads somewhere already"))
    }
}

async fn carry(State(target): State<Target>, method: Method, uri: Uri, mut headers: HeaderMap, body: Bytes) -> Response {
    let Some((url, http)) = target.get() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    // LocalStack refuses whatever comes from a page it does not know, as its own API would be open to every page of a browser otherwise.
    let left_out = [header::HOST, header::CONTENT_LENGTH, header::CONNECTION, header::ACCEPT_ENCODING, header::ORIGIN, header::REFERER];
    for own in left_out {
        headers.remove(own);
    }
    let place = uri.path_and_query().map_or("/", |place| place.as_str());
    match http.request(method, format!("{url}{place}")).headers(headers).body(body).send().await {
        Ok(answer) => {
            let (status, mut headers) = (answer.status(), answer.headers().clone());
            for own in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
                headers.remove(own);
            }
            let body = answer.bytes().await.unwrap_or_default();
            (status, headers, Body::from(body)).into_response()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{}\n", error.without_url())).into_response(),
    }
}
