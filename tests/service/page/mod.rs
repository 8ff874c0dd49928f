//! The page in a real browser.

mod browser;
mod jobs;
mod topics;

use crate::running::{Files, Running, section};

/// Starts a service whose jobs, which have been written, wait for somebody once they have failed.
fn start(files: &Files, jobs: &[&str]) -> Running {
    let mut text = format!(
        "[connections.main]\n\"bootstrap.servers\" = \"{}\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\ntoken = \"env:TEST_TOKEN\"\n\
         [service]\nfirst_pause = \"300s\"\nlongest_pause = \"300s\"\n",
        crate::support::shared().bootstrap()
    );
    for job in jobs {
        text.push_str(&section(job, "trigger = \"every 200ms\""));
    }
    files.write("serve.toml", &text);
    Running::start(files)
}
