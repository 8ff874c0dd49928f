//! The page of the service in a real browser, and what is shipped to run it: as processes, over a real broker.

#[path = "page/browser.rs"]
mod browser;
#[path = "page/jobs.rs"]
mod jobs;
#[path = "page/served.rs"]
mod served;
#[path = "deploy/shipped.rs"]
mod shipped;
mod support;
#[path = "page/topics.rs"]
mod topics;
