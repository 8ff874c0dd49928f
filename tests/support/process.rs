//! A server's process under a watchdog, so that it never outlives the test.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Starts the server, prints its pid, and waits for a line with the signal to end it with.
///
/// When the test process ends in any way, it closes the pipe. The watchdog then ends the server with the
/// signal $3 and removes its folder ($1). The server inherits standard output as descriptor 3, which the
/// shell closes for itself, so the reader on the other side sees the end once the server has ended.
const WATCHDOG: &str = r#"
folder=$1 log=$2 last=$3; shift 3
"$@" 3>&1 >>"$log" 2>&1 </dev/null &
pid=$!
echo "$pid"
exec >/dev/null
if read -r signal; then
  kill "-$signal" "$pid" 2>/dev/null
  wait "$pid"
else
  kill "-$last" "$pid" 2>/dev/null
  wait "$pid"
  rm -rf -- "$folder"
fi
"#;

/// A running server.
#[derive(Debug)]
pub(super) struct Watched {
    watchdog: Child,
    pid: u32,
    ended: Arc<AtomicBool>,
}

impl Watched {
    /// Starts a command, given as a program with arguments. Its output goes to `log`. `last` is the signal
    /// that ends it when this process is gone.
    ///
    /// # Panics
    /// When no shell can be started.
    pub(super) fn start(folder: &Path, log: &Path, last: &str, command: &[OsString]) -> Self {
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(folder)
            .arg(log)
            .arg(last)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C in the terminal is meant for the test. The pipe notifies the watchdog.
            .process_group(0)
            .spawn()
            .expect("cannot start sh");
        let stdout = watchdog.stdout.take().expect("the output is piped");
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the watchdog is silent");
        let pid = line
            .trim()
            .parse()
            .expect("the watchdog's first line is a pid");
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        // Ends with the server, which holds the other end of the pipe.
        std::thread::spawn(move || {
            let _ = stdout.read_to_end(&mut Vec::new());
            seen.store(true, Ordering::Release);
        });
        Self {
            watchdog,
            pid,
            ended,
        }
    }

    /// The server's process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the server has ended on its own.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Sends a signal that does not end the server, such as STOP and CONT.
    pub(super) fn signal(&self, signal: &str) {
        assert!(!self.has_ended(), "the server has ended");
        let status = Command::new("sh")
            .args(["-c", "kill \"-$1\" \"$2\"", "kill", signal])
            .arg(self.pid.to_string())
            .status()
            .expect("cannot start sh");
        assert!(status.success(), "cannot send {signal} to {}", self.pid);
    }

    /// Ends the server with a signal such as TERM or KILL, and waits until it is gone. Its folder stays.
    pub(super) fn end(mut self, signal: &str) {
        let mut stdin = self.watchdog.stdin.take().expect("the input is piped");
        // If the watchdog is gone, it has already ended the server.
        let _ = writeln!(stdin, "{signal}");
        let _ = self.watchdog.wait();
    }
}
