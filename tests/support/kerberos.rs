//! A KDC of MIT's Kerberos, with Debian's packages `krb5-kdc`, `krb5-admin-server` and `krb5-user`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

use super::process::Watched;
use super::unique::{accepts_connections, free_port};
use super::wait_until;

const REALM: &str = "TEST.LOCAL";
const MASTER: &str = "master password";
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running KDC. Its watchdog ends it with the process.
pub struct Kdc {
    folder: TempDir,
    process: Option<Watched>,
}

impl Kdc {
    /// Starts a KDC with a realm of its own.
    ///
    /// # Panics
    /// When its programs are missing, or it does not start.
    pub fn start() -> Self {
        let folder = TempDir::with_prefix("kdc-").expect("cannot make a folder");
        let port = free_port();
        let mut kdc = Self {
            folder,
            process: None,
        };
        let file = |name: &str| kdc.path(name).display().to_string();
        // A service has the address that clients connect to, whatever DNS says of it.
        let client = format!(
            "[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_kdc = false\ndns_lookup_realm = false\n\
             rdns = false\ndns_canonicalize_hostname = false\nudp_preference_limit = 1\n\
             [realms]\n{REALM} = {{\n kdc = 127.0.0.1:{port}\n}}\n"
        );
        let server = format!(
            "[kdcdefaults]\nkdc_listen = \"\"\nkdc_tcp_listen = 127.0.0.1:{port}\n\
             [realms]\n{REALM} = {{\n database_name = {}\n key_stash_file = {}\n acl_file = {}\n}}\n\
             [logging]\nkdc = FILE:{}\n",
            file("principals"),
            file("stash"),
            file("acl"),
            file("kdc.log"),
        );
        kdc.write("krb5.conf", &client);
        kdc.write("kdc.conf", &server);
        // Nowhere, for clients that do not find the KDC.
        let lost = client.replace(&format!(":{port}\n"), &format!(":{}\n", free_port()));
        kdc.write("lost.conf", &lost);
        kdc.run("kdb5_util", &["create", "-s", "-r", REALM, "-P", MASTER]);
        // Without a user, `env` finds the programs of administrators as well.
        let command: Vec<OsString> = vec![
            "env".into(),
            format!("KRB5_CONFIG={}", kdc.configuration().display()).into(),
            format!("KRB5_KDC_PROFILE={}", kdc.path("kdc.conf").display()).into(),
            format!("PATH={}", programs()).into(),
            "krb5kdc".into(),
            "-n".into(),
        ];
        let process = Watched::start(kdc.folder.path(), &kdc.path("out.log"), "TERM", &command);
        wait_until(START_LIMIT, "the KDC listens", || {
            let log = || std::fs::read_to_string(kdc.path("out.log")).unwrap_or_default();
            assert!(!process.has_ended(), "the KDC ended: {}", log());
            accepts_connections(port).then_some(())
        });
        kdc.process = Some(process);
        kdc
    }

    /// `krb5.conf` for this KDC, for the variable `KRB5_CONFIG`.
    pub fn configuration(&self) -> PathBuf {
        self.path("krb5.conf")
    }

    /// One that names a KDC which nobody runs.
    pub fn lost_configuration(&self) -> PathBuf {
        self.path("lost.conf")
    }

    /// A principal's full name.
    pub fn principal(&self, name: &str) -> String {
        format!("{name}@{REALM}")
    }

    /// Makes a principal, and a keytab with its key.
    pub fn keytab(&self, name: &str) -> PathBuf {
        let path = self.path(&format!("{}.keytab", name.replace('/', "-")));
        self.administer(&format!("addprinc -randkey {name}"));
        self.administer(&format!("ktadd -k {} {name}", path.display()));
        path
    }

    /// A cache with a ticket by a keytab, valid for this long, for the variable `KRB5CCNAME`.
    pub fn ticket(&self, keytab: &Path, name: &str, lifetime: &str) -> PathBuf {
        let cache = self.path(&format!("{name}-{lifetime}.cache"));
        let (keytab, cached) = (keytab.display().to_string(), cache.display().to_string());
        self.run(
            "kinit",
            &["-l", lifetime, "-c", &cached, "-k", "-t", &keytab, name],
        );
        cache
    }

    /// Runs a command of `kadmin`.
    pub fn administer(&self, query: &str) {
        self.run("kadmin.local", &["-r", REALM, "-q", query]);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("cannot write a file");
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let done = Command::new(program)
            .args(arguments)
            .env("KRB5_CONFIG", self.configuration())
            .env("KRB5_KDC_PROFILE", self.path("kdc.conf"))
            .env("PATH", programs())
            .output()
            .unwrap_or_else(|e| panic!("cannot run {program} ({e}): apt-get install krb5-kdc krb5-admin-server krb5-user"));
        // `kadmin.local` also ends well when it has not done what it was asked for.
        let said = String::from_utf8_lossy(&done.stderr);
        let failed =
            !done.status.success() || (program == "kadmin.local" && said.contains("while"));
        assert!(!failed, "{program} {arguments:?}: {done:?}");
        done
    }
}

/// The path with the programs of administrators, which users may not have on theirs.
fn programs() -> String {
    format!(
        "{}:/usr/sbin:/usr/local/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    )
}
