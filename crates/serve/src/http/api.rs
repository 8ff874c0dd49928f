//! The API: jobs as JSON, what happens as server-sent events, and what may be done to jobs.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::{StreamExt, stream};
use serde_json::json;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::guard::Peer;
use crate::job::JobStatus;
use crate::service::{Action, FOLLOWERS, Service, closed};

pub(super) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/api/jobs", get(jobs))
        .route("/api/jobs/{job}", get(job))
        .route("/api/jobs/{job}/{action}", post(act))
        .route("/api/events", get(events))
}

async fn jobs(State(service): State<Arc<Service>>) -> Json<Vec<JobStatus>> {
    service.board().glance().await;
    Json(service.jobs().into_iter().map(JobStatus::brief).collect())
}

async fn job(State(service): State<Arc<Service>>, Path(job): Path<String>) -> Response {
    let Some(monitor) = service.board().monitor(&job) else {
        return refused(StatusCode::NOT_FOUND, &format!("there is no job '{job}'"));
    };
    // If the cluster does not answer, what was known before is shown with its time.
    monitor.glance().await;
    Json(monitor.status()).into_response()
}

async fn act(
    State(service): State<Arc<Service>>,
    Extension(Peer(peer)): Extension<Peer>,
    Path((job, action)): Path<(String, String)>,
) -> Response {
    let Some(action) = Action::of(&action) else {
        let message = format!("'{action}': expected pause, resume, stop or retry");
        return refused(StatusCode::NOT_FOUND, &message);
    };
    match service.act(&job, action, &format!("HTTP client {peer}")) {
        Ok(()) => (StatusCode::ACCEPTED, Json(json!({ "job": job }))).into_response(),
        Err(none) => refused(StatusCode::NOT_FOUND, &none.message),
    }
}

/// A refusal as JSON.
pub(super) fn refused(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

/// First the state of each job, then what happens. Ends when the service does.
async fn events(State(service): State<Arc<Service>>) -> Response {
    let Some(place) = service.follower() else {
        let message = format!("{FOLLOWERS} clients follow the events already; try again later");
        return refused(StatusCode::SERVICE_UNAVAILABLE, &message);
    };
    let followed = BroadcastStream::new(service.events());
    let statuses = service.jobs().into_iter();
    let first = statuses.map(|status| event("job", &status.brief()));
    let then = followed.map(|happened| match happened {
        Ok(happened) => event("event", &happened),
        // Whoever follows asks for everything again.
        Err(BroadcastStreamRecvError::Lagged(missed)) => event("missed", &missed),
    });
    let mut ended = service.ended();
    let ended = Box::pin(async move { closed(&mut ended).await });
    let all = stream::iter(first).chain(then).take_until(ended);
    let all = all.map(move |event| {
        // Held as long as somebody follows.
        let _ = &place;
        Ok::<_, Infallible>(event)
    });
    let events = Sse::new(all).keep_alive(KeepAlive::default());
    events.into_response()
}

fn event(name: &str, data: &impl serde::Serialize) -> sse::Event {
    let event = sse::Event::default().event(name);
    // Maps with text keys, numbers and texts, which JSON always can.
    event
        .json_data(data)
        .unwrap_or_else(|_| sse::Event::default().event("missed"))
}
