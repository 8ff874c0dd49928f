//! What the service manager is told: systemd's protocol, by its socket. Nothing where there is none.

pub use sd_notify::NotifyState;

/// Tells systemd how the service is.
#[derive(Debug)]
pub struct Notifier {
    watches: bool,
}

impl Notifier {
    /// For the socket and the watchdog that the environment names.
    pub fn of_environment() -> Self {
        Self {
            watches: sd_notify::watchdog_enabled().is_some(),
        }
    }

    /// Whether the service manager wants to be told that all is well.
    pub fn watches(&self) -> bool {
        self.watches
    }

    /// Tells a state. That nobody hears it stops nothing.
    pub fn tell(&self, states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            log::warn!("cannot tell the service manager: {error}");
        }
    }

    /// Tells that the file is read again.
    pub fn reloading(&self) {
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now());
        self.tell(&states);
    }
}
