//! Faults of the machine on which jobs and exports run: `docs/faults.md`.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::deliveries::outcome;
use super::proxied::bed;
use crate::crash::{self, INSERT};
use crate::export::kafka_sql;
use crate::job::{self, Job};
use crate::support::documented::documented;

documented!(
    "faults.md",
    "The reader's own machine",
    ["export", "parquet", "sqlite", "offset log"],
    [disk_full, read_only_folder, few_open_files],
    slow[no_more_threads, little_address_space, little_memory_in_a_container]
);

/// A fault of the folder `$disk`, in sh: what begins it and what ends it.
struct Fault {
    begin: &'static str,
    end: &'static str,
    /// What the error has to say, in the words of the system or of SQLite.
    says: &'static [&'static str],
    /// Whether it needs a mount, and what the page says of it where there can be none.
    mounts: bool,
    otherwise: &'static str,
}

/// Runs a command twice, within the fault and after it, and prints the exit codes. What was mounted for the
/// fault is gone with the process, so what lies there is kept.
const SCRIPT: &str = r#"
disk=$1 kept=$2 begin=$3 end=$4; shift 4
eval "$begin" || exit 99
"$@"; echo "code $?"
eval "$end"
"$@"; echo "code $?"
if [ -e "$disk/.mounted" ]; then
  cp -a "$disk/." "$kept/" && umount "$disk" && cp -a "$kept/." "$disk/"
fi
"#;

/// Whether this process may mount in a namespace of its own, as root or as any user.
pub(crate) fn may_mount() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let tried = Command::new("unshare")
            .args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"])
            .output();
        tried.is_ok_and(|tried| tried.status.success())
    })
}

/// What comes of a job or an export under a fault of the files that the column names.
fn local(column: &str, fault: &Fault) -> String {
    if fault.mounts && !may_mount() {
        eprintln!("not run: this process may not mount anything (unshare -rm)");
        return fault.otherwise.to_owned();
    }
    let bed = bed();
    let brokers = bed.server.bootstrap();
    let folder = |folder: &TempDir| {
        let [disk, kept] = ["disk", "kept"].map(|name| folder.path().join(name));
        std::fs::create_dir(&disk).expect("a folder");
        std::fs::create_dir(kept).expect("a folder");
        disk
    };
    let sink = |job: &TempDir| {
        let disk = folder(job);
        match column {
            "sqlite" => crash::sqlite_sink(&disk),
            "parquet" => crash::parquet_sink(&disk),
            _ => crash::parquet_sink(job.path()),
        }
    };
    let job = Job::over(
        [brokers, brokers],
        bed.usual.name.clone(),
        sink,
        INSERT,
        |_| String::new(),
    );
    let [disk, kept] = ["disk", "kept"].map(|name| job.folder.path().join(name));
    let log = disk.join("log").display().to_string();
    let command = match column {
        "export" => {
            let mut export = kafka_sql();
            export
                .args([
                    "-b",
                    brokers,
                    "-q",
                    "export",
                    &bed.usual.name,
                    &bed.usual.range(),
                ])
                .args(["--max-file-offsets", "300", "--resume", "-o"])
                .arg(disk.join("out"));
            export
        }
        _ => {
            let flags = [
                "--available-now",
                "-q",
                "--max-offsets",
                "900",
                "--retry-for",
                "1s",
            ];
            let mut run = job.command(&flags);
            if column == "offset log" {
                run.args(["--checkpoint", &log]);
            }
            run
        }
    };
    let mut script = Command::new(if fault.mounts { "unshare" } else { "sh" });
    if fault.mounts {
        script.args(["-rm", "sh"]);
    }
    script
        .args(["-c", SCRIPT, "sh"])
        .args([&disk, &kept])
        .args([fault.begin, fault.end])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    let output = script.output().expect("sh starts");
    let text = job::text(&output);
    let codes: Vec<i32> = text
        .lines()
        .filter_map(|line| line.strip_prefix("code ")?.parse().ok())
        .collect();
    let [first, second] = codes[..] else {
        panic!("{column}: {text}");
    };
    assert_eq!(second, 0, "{column}: {text}");
    eprintln!("{column}: {text}");
    if first != 0 {
        let says = fault.says.iter().any(|says| text.contains(says));
        assert!(says, "{column}: {text}");
    }
    match column {
        "export" => {
            let mut verify = kafka_sql();
            verify
                .args(["-b", brokers, "verify", "--against-kafka"])
                .arg(disk.join("out"));
            let verified = job::text(&verify.output().expect("the shell starts"));
            assert!(verified.contains("4,200 rows the same"), "{verified}");
        }
        "sqlite" => job.assert_exactly_once(crash::sqlite_rows(&disk.join("out.db")), 0),
        _ => {
            let out = if column == "parquet" {
                &disk
            } else {
                job.folder.path()
            };
            let out = out.join("out").display().to_string();
            job.assert_exactly_once(crash::parquet_rows(&out, HashMap::new()), 0);
        }
    }
    // A shell says so of a process that a signal has ended.
    let status = ExitStatus::from_raw(if first > 128 { first - 128 } else { first << 8 });
    outcome(status, first == 0)
}

async fn run(column: &str, fault: Fault) -> String {
    tokio::task::block_in_place(|| local(column, &fault))
}

async fn disk_full(column: &str) -> String {
    // Thirty-two kilobytes are left.
    let begin = r#"mount -t tmpfs -o size=16m none "$disk" && touch "$disk/.mounted"
        dd if=/dev/zero of="$disk/filler" bs=4k 2>/dev/null; truncate -s -32768 "$disk/filler""#;
    run(
        column,
        Fault {
            begin,
            end: r#"rm "$disk/filler""#,
            says: &["No space left on device", "disk I/O error"],
            mounts: true,
            otherwise: "exit code 3, then exact",
        },
    )
    .await
}

async fn read_only_folder(column: &str) -> String {
    let begin =
        r#"mount -t tmpfs none "$disk" && touch "$disk/.mounted" && mount -o remount,ro "$disk""#;
    run(
        column,
        Fault {
            begin,
            end: r#"mount -o remount,rw "$disk""#,
            says: &["Read-only file system", "unable to open database file"],
            mounts: true,
            otherwise: match column {
                "sqlite" => "exit code 3, then exact",
                _ => "exit code 1, then exact",
            },
        },
    )
    .await
}

async fn few_open_files(column: &str) -> String {
    let found = run(
        column,
        Fault {
            // What the runner of the tests left open would take part in the count.
            // What the runner of the tests left open is not counted.
            begin: r#"open=$(ls /proc/self/fd | awk '$1 > 2 && $1 < 20' | wc -l); ulimit -S -n $((13 + open))"#,
            end: "ulimit -S -n 1024",
            says: &["Too many open files", "unable to open database file"],
            mounts: false,
            otherwise: "",
        },
    )
    .await;
    // Which of the files is the first that cannot be opened decides whether that is tried again.
    match &*found {
        "exit code 1, then exact" | "exit code 3, then exact" => "exit code 1 or 3, then exact",
        _ => return found,
    }
    .to_owned()
}

/// From too little to start with up to enough.
async fn little_address_space(column: &str) -> String {
    let mut found = BTreeSet::new();
    for begin in [
        "ulimit -S -v 200000",
        "ulimit -S -v 250000",
        "ulimit -S -v 300000",
        "ulimit -S -v 350000",
        "ulimit -S -v 400000",
        "ulimit -S -v 500000",
        "ulimit -S -v 1000000",
    ] {
        let fault = Fault {
            begin,
            end: "ulimit -S -v unlimited",
            says: &[
                "cannot start: ",
                "memory allocation of",
                "out of memory",
                "Cannot allocate memory",
                "Resource temporarily unavailable",
                // Of zstd, which then panics.
                "null pointer",
            ],
            mounts: false,
            otherwise: "",
        };
        let outcome = run(column, fault).await;
        eprintln!("{column}, {begin}: {outcome}");
        found.insert(outcome);
    }
    // Which of them it is depends on the machine, but little is too little and much is enough.
    let allowed = ["exact", "exit code 1, then exact", "killed, then exact"];
    assert!(found.len() > 1 && found.contains("exact"), "{found:?}");
    match found
        .iter()
        .all(|outcome| allowed.contains(&outcome.as_str()))
    {
        true => "exact, or exit code 1 or killed and then exact".to_owned(),
        false => format!("{found:?}"),
    }
}

/// The system kills the largest process of the group.
async fn little_memory_in_a_container(column: &str) -> String {
    const OTHERWISE: &str = "killed, then exact";
    if !may_limit_memory() {
        eprintln!("not run: this process may not make a group with a limit of memory (cgroup)");
        return OTHERWISE.to_owned();
    }
    let fault = Fault {
        begin: r#"group=/sys/fs/cgroup/memory limit=memory.limit_in_bytes
            [ -e $group/$limit ] || { group=/sys/fs/cgroup limit=memory.max; }
            own=$group/kafka-sql-test-$$
            mkdir $own && echo 24M > $own/$limit && echo $$ > $own/cgroup.procs"#,
        end: "echo $$ > $group/cgroup.procs; rmdir $own",
        // The system says nothing.
        says: &[""],
        mounts: false,
        otherwise: OTHERWISE,
    };
    run(column, fault).await
}

/// Whether this process may make a group of processes whose memory is limited, with either version of cgroup.
fn may_limit_memory() -> bool {
    ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"]
        .iter()
        .any(|root| {
            let group = format!("{root}/kafka-sql-test-{}", std::process::id());
            let made = std::fs::create_dir(&group).is_ok();
            let limits = ["memory.limit_in_bytes", "memory.max"];
            let limited = made
                && limits
                    .iter()
                    .any(|limit| std::path::Path::new(&format!("{group}/{limit}")).exists());
            let removed = std::fs::remove_dir(&group).is_ok();
            limited && removed
        })
}

/// There is room for a few stacks of threads only.
async fn no_more_threads(column: &str) -> String {
    run(
        column,
        Fault {
            begin: "ulimit -S -v 200000",
            end: "ulimit -S -v unlimited",
            says: &["cannot start: ", "memory allocation of", "out of memory"],
            mounts: false,
            otherwise: "",
        },
    )
    .await
}
