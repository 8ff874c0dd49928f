//! The page, for people: jobs, their batches, topics and a box for queries.
//!
//! HTML is made here and complete without a script. The script asks for the page again when `/api/events` tells of
//! something, exchanges what differs, and sends what the buttons of a job mean, with the token, to the API. Nothing comes
//! from another host, and the browser is told so by a Content-Security-Policy; there are no cookies.
//!
//! | path | |
//! |---|---|
//! | `/` | all jobs |
//! | `/jobs/NAME` | one: lag, batches, partitions, sinks, errors |
//! | `/jobs/NAME/batches/N`, `…/receipt` | a batch of its offset log, and the same as JSON |
//! | `/topics`, `/topics/NAME?range=…` | topics; offsets and records of one |
//! | `/query?sql=…` | a statement that reads, within a budget |
//!
//! [`Guard`](crate::http::Guard) is in front of all of them.

mod advice;
mod batch;
mod chart;
mod jobs;
mod query;
mod rows;
mod topics;
mod words;

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Extension, Path, Query, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use crate::http::Peer;
use crate::problem::Problem;
use crate::service::{PAGES_THAT_READ, Service};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Everything from here, and nothing that a text of others could run or load.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The routes of the page.
pub(crate) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/", get(all_jobs))
        .route("/jobs/{job}", get(one_job))
        .route("/jobs/{job}/batches/{batch}", get(one_batch))
        .route("/jobs/{job}/batches/{batch}/receipt", get(receipt))
        .route("/topics", get(all_topics))
        .route("/topics/{topic}", get(one_topic))
        .route("/query", get(ask))
        .route(
            "/page/style.css",
            get(|| {
                file(
                    "text/css; charset=utf-8",
                    include_str!("../../templates/style.css"),
                )
            }),
        )
        .route(
            "/page/live.js",
            get(|| {
                file(
                    "text/javascript; charset=utf-8",
                    include_str!("../../templates/live.js"),
                )
            }),
        )
        .route(
            "/page/icon.svg",
            get(|| file("image/svg+xml", include_str!("../../templates/icon.svg"))),
        )
        .layer(map_response(with_policy))
}

async fn file(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind)], text).into_response()
}

async fn with_policy(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn all_jobs(State(service): State<Arc<Service>>) -> Response {
    service.board().glance().await;
    html(&jobs::Jobs::new(&service.jobs()))
}

async fn one_job(State(service): State<Arc<Service>>, Path(job): Path<String>) -> Response {
    let Some(monitor) = service.board().monitor(&job) else {
        return no_job(&service, &job);
    };
    monitor.glance().await;
    let status = monitor.status();
    let ends = batch::recorded_ends(&status).await;
    let config = service.config();
    let may_act = config
        .http
        .as_ref()
        .is_some_and(|http| http.token.is_some());
    html(&jobs::Job::new(&status, &ends, may_act))
}

async fn one_batch(
    State(service): State<Arc<Service>>,
    Path((job, number)): Path<(String, u64)>,
) -> Response {
    let Some(monitor) = service.board().monitor(&job) else {
        return no_job(&service, &job);
    };
    let status = monitor.status();
    let config = service.config();
    let servers = config
        .connection(&status.connection)
        .map(|connection| connection.config.bootstrap_servers().to_owned())
        .unwrap_or_default();
    match batch::Logged::read(&status.checkpoint, number).await {
        Ok(logged) => html(&batch::Batch::new(&status, &servers, &logged)),
        Err(problem) => message(StatusCode::NOT_FOUND, &problem, &jobs::href(&job)),
    }
}

async fn receipt(
    State(service): State<Arc<Service>>,
    Path((job, number)): Path<(String, u64)>,
) -> Response {
    let Some(monitor) = service.board().monitor(&job) else {
        return no_job(&service, &job);
    };
    match batch::Logged::read(&monitor.status().checkpoint, number).await {
        Ok(logged) => axum::Json(logged).into_response(),
        Err(problem) => message(StatusCode::NOT_FOUND, &problem, &jobs::href(&job)),
    }
}

async fn all_topics(State(service): State<Arc<Service>>) -> Response {
    let Some(_place) = service.place() else {
        return busy();
    };
    html(&topics::Topics::new(query::topics(&service).await))
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    range: String,
}

async fn one_topic(
    State(service): State<Arc<Service>>,
    Path(topic): Path<String>,
    Query(Range { range }): Query<Range>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = from_elsewhere(&headers) {
        return refusal;
    }
    let Some(_place) = service.place() else {
        return busy();
    };
    html(&topics::Topic::new(&service, &topic, range.trim()).await)
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    sql: String,
}

async fn ask(
    State(service): State<Arc<Service>>,
    Extension(Peer(peer)): Extension<Peer>,
    Query(Asked { sql }): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let sql = sql.trim().to_owned();
    if !sql.is_empty()
        && let Some(refusal) = from_elsewhere(&headers)
    {
        return refusal;
    }
    let answer = match (sql.as_str(), service.place()) {
        ("", _) => rows::Answer::None,
        (_, None) => return busy(),
        (sql, Some(_place)) => query::typed(&service, sql, peer).await,
    };
    html(&topics::Ask::new(sql, answer))
}

/// What reads topics is asked for by this page or by hand: a page from elsewhere could make a browser ask for much.
fn from_elsewhere(headers: &HeaderMap) -> Option<Response> {
    let site = headers.get("sec-fetch-site")?;
    match site.as_bytes() {
        b"same-origin" | b"none" => None,
        _ => {
            let problem =
                Problem::new("a page of another site has asked for this; open it from here");
            Some(message(StatusCode::FORBIDDEN, &problem, "/"))
        }
    }
}

fn busy() -> Response {
    let problem = Problem::new(format!(
        "{PAGES_THAT_READ} pages read from the cluster already; try again in a moment"
    ));
    message(StatusCode::SERVICE_UNAVAILABLE, &problem, "/")
}

fn no_job(service: &Service, job: &str) -> Response {
    let names: Vec<String> = service.jobs().into_iter().map(|job| job.name).collect();
    let problem = Problem::new(format!(
        "there is no job '{}'; there are: {}",
        words::shown(job),
        names.join(", ")
    ));
    message(StatusCode::NOT_FOUND, &problem, "/")
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    here: &'static str,
    version: &'static str,
    title: &'static str,
    message: String,
    back: &'a str,
}

fn message(status: StatusCode, problem: &Problem, back: &str) -> Response {
    let page = Message {
        here: "",
        version: VERSION,
        title: match status {
            StatusCode::NOT_FOUND => "Not there",
            _ => "Refused",
        },
        message: words::shown(&problem.message),
        back,
    };
    (status, html(&page)).into_response()
}

fn html(page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => ([(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response(),
        Err(error) => {
            log::error!("the page cannot be made: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests;
