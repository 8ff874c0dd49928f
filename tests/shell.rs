//! The shell as users see it: a process with arguments, pipes, signals and a terminal.
//!
//! Everything runs on the embedded broker of `kafka-sql demo`.

#[path = "shell/authority.rs"]
mod authority;
#[path = "shell/budget.rs"]
mod budget;
#[path = "shell/commands.rs"]
mod commands;
#[path = "shell/interactive.rs"]
mod interactive;
#[path = "shell/ledger.rs"]
mod ledger;
#[path = "shell/masking.rs"]
mod masking;
#[path = "shell/output.rs"]
mod output;
#[path = "shell/support.rs"]
mod support;
