//! What the process uses, from `/proc`; nothing on systems without it.

use std::path::Path;

/// The kernel's unit of CPU time for user space, the same on all architectures that Rust has as tier 1 and 2.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the process uses; `None` where it is not known.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    threads: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
    start_seconds: Option<f64>,
}

impl Usage {
    /// All but the CPU time, by the names that Prometheus' clients give them.
    pub(crate) fn gauges(&self) -> [(&'static str, &'static str, Option<f64>); 6] {
        [
            (
                "process_resident_memory_bytes",
                "Resident memory",
                self.resident_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory",
                self.virtual_bytes,
            ),
            ("process_threads", "Threads", self.threads),
            ("process_open_fds", "Open file descriptors", self.open_fds),
            (
                "process_max_fds",
                "The most file descriptors that may be open",
                self.max_fds,
            ),
            (
                "process_start_time_seconds",
                "When the process has started",
                self.start_seconds,
            ),
        ]
    }
}

/// What this process uses now.
pub(crate) fn usage() -> Usage {
    let read = |file: &str| std::fs::read_to_string(Path::new("/proc").join(file)).ok();
    let mut usage = Usage::default();
    if let Some(stat) = read("self/stat") {
        of_stat(&stat, read("stat").as_deref(), &mut usage);
    }
    if let Some(status) = read("self/status") {
        let kilobytes = |name| line(&status, name).map(|kb| kb * 1024.0);
        usage.resident_bytes = kilobytes("VmRSS:");
        usage.virtual_bytes = kilobytes("VmSize:");
        usage.threads = line(&status, "Threads:");
    }
    usage.max_fds = read("self/limits").and_then(|limits| line(&limits, "Max open files"));
    // The folder is open while it is read.
    let open = std::fs::read_dir("/proc/self/fd").map(|folder| folder.count().saturating_sub(1));
    usage.open_fds = open
        .ok()
        .and_then(|open| u32::try_from(open).ok())
        .map(f64::from);
    usage
}

fn of_stat(stat: &str, machine: Option<&str>, usage: &mut Usage) {
    // The second field is the program's name in parentheses, which may have any characters.
    let Some((_, fields)) = stat.rsplit_once(')') else {
        return;
    };
    let field =
        |number: usize| -> Option<f64> { fields.split_whitespace().nth(number - 3)?.parse().ok() };
    usage.cpu_seconds = field(14)
        .zip(field(15))
        .map(|(user, system)| (user + system) / TICKS_PER_SECOND);
    let booted = machine.and_then(|machine| line(machine, "btime"));
    usage.start_seconds = booted
        .zip(field(22))
        .map(|(booted, ticks)| booted + ticks / TICKS_PER_SECOND);
}

/// The first number of the line that starts with a name.
fn line(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name_of_the_program() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 4000 1 2";
        let mut usage = Usage::default();
        of_stat(stat, Some("cpu 1\nbtime 1000\n"), &mut usage);
        assert_eq!(usage.cpu_seconds, Some(2.0));
        assert_eq!(usage.start_seconds, Some(1040.0));
        of_stat("", None, &mut usage);
        of_stat("7 (a)", None, &mut usage);
    }
}
