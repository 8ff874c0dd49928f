//! Real PostgreSQL servers for tests, each with its own data and port.
//!
//! The programs come from Debian's packages or from the path. The server refuses to run as root; in that case
//! it runs as the user `postgres`.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use super::certificates::Certificates;
use super::process::Watched;
use super::wait_until;

/// The password of the user `alice`. `postgres` needs none.
pub const PASSWORD: &str = "correct horse";

/// How long a server may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running server. Dropping it stops it and removes its data.
pub struct PostgresServer {
    folder: TempDir,
    port: u16,
    tls: Option<Certificates>,
    process: Option<Watched>,
}

/// The server that the tests of this process share.
pub fn shared() -> &'static PostgresServer {
    static SHARED: OnceLock<PostgresServer> = OnceLock::new();
    SHARED.get_or_init(PostgresServer::start)
}

impl PostgresServer {
    /// Starts a server without TLS.
    pub fn start() -> Self {
        Self::new(false)
    }

    /// Starts a server that only accepts `postgres` without TLS.
    pub fn start_with_tls() -> Self {
        Self::new(true)
    }

    fn new(with_tls: bool) -> Self {
        let folder = TempDir::with_prefix("postgres-").expect("cannot make a folder");
        let tls = with_tls.then(|| Certificates::write(folder.path()));
        give(folder.path());
        let data = folder.path().join("data");
        let made = as_owner("initdb")
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8"])
            .args(["--locale", "C", "-D"])
            .arg(&data)
            .output()
            .expect("cannot start initdb: scripts/setup installs PostgreSQL");
        assert!(made.status.success(), "initdb: {made:?}");
        let others = if with_tls { "hostssl" } else { "host" };
        let access = format!(
            "host all postgres 127.0.0.1/32 trust\n{others} all all 127.0.0.1/32 scram-sha-256\n"
        );
        std::fs::write(data.join("pg_hba.conf"), access).expect("cannot write pg_hba.conf");
        let port = super::unique::free_port();
        let mut server = Self {
            folder,
            port,
            tls,
            process: None,
        };
        server.launch();
        server.sql(&format!("CREATE USER alice PASSWORD '{PASSWORD}'"));
        server
    }

    fn launch(&mut self) {
        let mut command: Vec<OsString> = as_owner_arguments("postgres");
        let data = self.folder.path().join("data");
        command.extend(["-D".into(), data.into_os_string()]);
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            format!("port={}", self.port),
            // A killed server loses nothing this way, because the machine stays on.
            "fsync=off".to_owned(),
            "shared_buffers=32MB".to_owned(),
        ];
        if let Some(tls) = &self.tls {
            settings.push("ssl=on".to_owned());
            // One file contains both; each reader takes its part.
            settings.push(format!("ssl_cert_file={}", tls.server.display()));
            settings.push(format!("ssl_key_file={}", tls.server.display()));
        }
        for setting in settings {
            command.extend(["-c".into(), setting.into()]);
        }
        let log = self.folder.path().join("server.log");
        let process = Watched::start(self.folder.path(), &log, "QUIT", &command);
        let process = self.process.insert(process);
        wait_until(START_LIMIT, "PostgreSQL answers", || {
            if process.has_ended() {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("PostgreSQL ended: {log}");
            }
            let answer = psql(self.port, "SELECT 1");
            answer.status.success().then_some(())
        });
    }

    /// Ends the server immediately, like a crash.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.end("QUIT");
        }
    }

    /// Starts it again, with the same data and port.
    pub fn start_again(&mut self) {
        self.stop();
        self.launch();
    }

    /// The URL for a user. `postgres` is the superuser.
    pub fn url(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres", self.port)
    }

    /// The authority that signed the server's certificate, and another one.
    pub fn authorities(&self) -> (&Path, &Path) {
        let tls = self.tls.as_ref().expect("the server was started with TLS");
        (&tls.ca, &tls.other_ca)
    }

    /// Runs statements as the superuser and returns the result: rows as lines, columns separated by tabs,
    /// NULL as `\N`.
    ///
    /// # Panics
    /// When the server refuses them.
    pub fn sql(&self, statements: &str) -> String {
        let answer = psql(self.port, statements);
        assert!(answer.status.success(), "{statements}: {answer:?}");
        String::from_utf8(answer.stdout).expect("psql writes UTF-8")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn psql(port: u16, statements: &str) -> std::process::Output {
    Command::new(program("psql"))
        .args(["-X", "-q", "-A", "-t", "-F", "\t", "-P", "null=\\N"])
        .args(["-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"])
        .args(["-p", &port.to_string(), "-d", "postgres", "-c", statements])
        .output()
        .expect("cannot start psql: scripts/setup installs PostgreSQL")
}

/// The newest program in Debian's packages, or else the one on the path.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let newest = versions
        .filter_map(|version| {
            let path = version.ok()?.path();
            let number: u32 = path.file_name()?.to_str()?.parse().ok()?;
            let program = path.join("bin").join(name);
            program.is_file().then_some((number, program))
        })
        .max();
    newest.map_or_else(|| PathBuf::from(name), |(_, program)| program)
}

fn is_root() -> bool {
    // The owner of a process's folder is its effective user.
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Gives a folder and its content to the user that the server runs as, unreadable for others.
fn give(folder: &Path) {
    let mut commands = vec!["chmod -R go-rwx \"$1\""];
    if is_root() {
        commands.push("chown -R postgres \"$1\"");
    }
    let status = Command::new("sh")
        .args(["-c", &commands.join(" && "), "sh"])
        .arg(folder)
        .status()
        .expect("cannot start sh");
    assert!(status.success(), "cannot give {} away", folder.display());
}

fn as_owner_arguments(name: &str) -> Vec<OsString> {
    let mut command = Vec::new();
    if is_root() {
        let user = [
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
        ];
        command.extend(user.map(OsString::from));
    }
    command.push(program(name).into_os_string());
    command
}

fn as_owner(name: &str) -> Command {
    let arguments = as_owner_arguments(name);
    let mut command = Command::new(&arguments[0]);
    command.args(&arguments[1..]).current_dir("/");
    command
}
