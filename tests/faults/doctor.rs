//! `kafka-sql doctor` as users run it: what it finds on real brokers, and on servers that are none.

#[path = "doctor/output.rs"]
mod output;
#[path = "doctor/run.rs"]
mod run;
#[path = "doctor/servers.rs"]
mod servers;

use std::time::Duration;

use self::run::{Started, at, cell, filled, logged_in, shared, with};
use self::servers::{BlackHole, closed_port, dated, server};
use crate::support::documented::documented;
use crate::support::{
    KafkaCluster, KafkaOptions, Listener, Login, PASSWORD, Record, admin, produce, wait_until,
};

documented!("doctor.md", "What it finds", ["exit code", "failed", "warning"], [
    healthy,
    broker_down,
    one_of_two_bootstrap_servers_down,
    name_does_not_resolve,
    address_that_never_answers,
    web_server,
    server_that_accepts_and_says_nothing,
    tls_asked_of_a_listener_without,
    no_tls_asked_of_a_tls_listener,
    authority_not_trusted,
    authority_file_missing,
    certificate_for_another_host,
    certificate_expired,
    certificate_that_expires_within_a_week,
    certificates_not_verified,
    client_certificate_missing,
    wrong_password,
    mechanism_not_offered,
    login_where_none_is_asked_for,
    no_login_where_one_is_asked_for,
    topic_that_does_not_exist,
    no_rights_on_the_topic,
    describe_but_not_read,
    no_rights_on_the_group,
    timestamps_of_the_future,
    client_in_a_rack_without_brokers,
    through_librdkafka,
    kerberos_which_only_librdkafka_has,
], slow [
    partition_without_a_leader,
]);

async fn healthy(column: &str) -> String {
    let says = [
        "TLSv1.3",
        "SCRAM-SHA-512 as 'admin'",
        "READ is allowed: 2 records",
        "CN=broker",
    ];
    cell("healthy", column, &says, || {
        let login = Login::ScramSha512("admin", PASSWORD);
        let args = logged_in(shared(), Listener::SaslSsl, login, &[]);
        with(args, &["--topic", &filled(), "--group", "any"])
    })
}

async fn broker_down(column: &str) -> String {
    let says = [
        "onnection refused",
        "is a broker running there",
        "skipped, because there is no connection",
    ];
    cell("broker_down", column, &says, || {
        at(&format!("127.0.0.1:{}", closed_port()))
    })
}

async fn one_of_two_bootstrap_servers_down(column: &str) -> String {
    let says = ["another bootstrap server answers"];
    cell("one_of_two", column, &says, || {
        let up = shared().bootstrap();
        at(&format!("127.0.0.1:{},{up}", closed_port()))
    })
}

async fn name_does_not_resolve(column: &str) -> String {
    let says = ["cannot resolve 'no-such-host.invalid'", "DNS"];
    cell("name", column, &says, || at("no-such-host.invalid:9092"))
}

async fn address_that_never_answers(column: &str) -> String {
    let says = ["no answer within 700 ms", "a firewall drops"];
    cell("address", column, &says, || {
        let hole = BlackHole::new();
        let args = vec!["-b".to_owned(), hole.address.to_string()];
        Started::with(hole, with(args, &["--step-timeout", "700ms"]))
    })
}

async fn web_server(column: &str) -> String {
    let says = [
        "does not answer in Kafka's protocol",
        "the port of another listener or service",
    ];
    cell("web", column, &says, || {
        at(&server(
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        ))
    })
}

async fn server_that_accepts_and_says_nothing(column: &str) -> String {
    let says = ["does not answer ApiVersions within 700 ms"];
    cell("silent", column, &says, || {
        let args = vec!["-b".to_owned(), server(b"")];
        with(args, &["--step-timeout", "700ms"])
    })
}

async fn tls_asked_of_a_listener_without(column: &str) -> String {
    let says = ["set 'security.protocol' to 'plaintext' or 'sasl_plaintext'"];
    cell("tls_without", column, &says, || {
        let shared = shared();
        let ca = shared.ca_pem_path().display().to_string();
        let settings = [
            "-X",
            "security.protocol=ssl",
            "-X",
            &format!("ssl.ca.location={ca}"),
        ];
        with(at(shared.bootstrap()), &settings)
    })
}

async fn no_tls_asked_of_a_tls_listener(column: &str) -> String {
    let says = ["'ssl' or 'sasl_ssl'"];
    cell("without_tls", column, &says, || {
        at(&shared().bootstrap_of(Listener::SaslSsl))
    })
}

/// The arguments for the shared broker's listener with TLS and logins.
fn over_tls(over: &[(&str, &str)]) -> Vec<String> {
    let login = Login::ScramSha256("admin", PASSWORD);
    logged_in(shared(), Listener::SaslSsl, login, over)
}

async fn authority_not_trusted(column: &str) -> String {
    let says = [
        "signed by CN=test authority",
        "trusted: CN=another authority",
        "ssl.ca.location",
    ];
    cell("authority", column, &says, || {
        let other = shared().other_ca_pem_path().display().to_string();
        over_tls(&[("ssl.ca.location", &other)])
    })
}

async fn authority_file_missing(column: &str) -> String {
    let says = ["cannot read '/no/such/file'"];
    cell("authority_file", column, &says, || {
        over_tls(&[("ssl.ca.location", "/no/such/file")])
    })
}

async fn certificate_for_another_host(column: &str) -> String {
    let says = [
        "is for localhost, 127.0.0.1, not for 0.0.0.0",
        "connect by a name that it is for",
    ];
    cell("host", column, &says, || {
        let mut args = over_tls(&[]);
        // Linux connects to this machine, under a name that is not in the certificate.
        args[1] = args[1].replace("localhost", "0.0.0.0");
        args
    })
}

async fn certificate_expired(column: &str) -> String {
    let says = [
        "expired on 2001-01-02T00:00:00Z",
        "have it renewed",
        "CN=expired",
    ];
    cell("expired", column, &says, || {
        let dated = dated();
        let mut args = at(&dated.server.bootstrap_of(Listener::Ssl));
        args.extend(["-X".to_owned(), "security.protocol=ssl".to_owned()]);
        with(args, &["-X", &format!("ssl.ca.location={}", dated.ca)])
    })
}

async fn certificate_that_expires_within_a_week(column: &str) -> String {
    let says = ["expires in 6 days", "have it renewed before"];
    cell("week", column, &says, || {
        let dated = dated();
        let login = Login::Plain("admin", PASSWORD);
        let over = [("ssl.ca.location", dated.ca.as_str())];
        logged_in(&dated.server, Listener::SaslSsl, login, &over)
    })
}

async fn certificates_not_verified(column: &str) -> String {
    let says = ["certificates are not verified", "READ is allowed"];
    cell("unverified", column, &says, || {
        let args = over_tls(&[("enable.ssl.certificate.verification", "false")]);
        with(args, &["--topic", &filled()])
    })
}

async fn client_certificate_missing(column: &str) -> String {
    let says = ["client certificate"];
    cell("client_certificate", column, &says, || {
        logged_in(shared(), Listener::Ssl, Login::Nobody, &[])
    })
}

async fn wrong_password(column: &str) -> String {
    let says = [
        "the login of 'admin' by SCRAM-SHA-256 failed",
        "check 'sasl.username'",
        "the broker offers PLAIN",
    ];
    cell("password", column, &says, || {
        over_tls(&[("sasl.password", "wrong")])
    })
}

async fn mechanism_not_offered(column: &str) -> String {
    let says = [
        "does not accept 'sasl.mechanism' = 'SCRAM-SHA-256' here",
        "it offers PLAIN",
    ];
    cell("mechanism", column, &says, || {
        let login = Login::ScramSha256("admin", PASSWORD);
        logged_in(&dated().server, Listener::SaslPlaintext, login, &[])
    })
}

async fn login_where_none_is_asked_for(column: &str) -> String {
    let says = [
        "accepts no login at this listener",
        "set 'security.protocol'",
    ];
    cell("login_unasked", column, &says, || {
        let login = Login::Plain("admin", PASSWORD);
        let mut args = logged_in(shared(), Listener::SaslPlaintext, login, &[]);
        args[1] = shared().bootstrap().to_owned();
        args
    })
}

async fn no_login_where_one_is_asked_for(column: &str) -> String {
    let says = ["does its listener expect a login"];
    cell("login_missing", column, &says, || {
        at(&shared().bootstrap_of(Listener::SaslPlaintext))
    })
}

async fn topic_that_does_not_exist(column: &str) -> String {
    let says = ["topic 'no-such-topic' does not exist or may not be described"];
    cell("no_topic", column, &says, || {
        with(at(shared().bootstrap()), &["--topic", "no-such-topic"])
    })
}

/// The arguments for a user who may do only these things with a topic of records.
fn as_user(user: &str, operations: &[&str]) -> Vec<String> {
    let topic = filled();
    for operation in operations {
        admin::allow_topic(shared(), &format!("User:{user}"), operation, &topic);
    }
    // Some topic that everybody sees, so that the cluster does not look empty.
    let login = Login::OAuthBearer(user);
    let args = logged_in(shared(), Listener::SaslPlaintext, login, &[]);
    with(args, &["--topic", &topic])
}

async fn no_rights_on_the_topic(column: &str) -> String {
    let says = ["DESCRIBE on topic doctor-", "--operation Describe --topic"];
    cell("no_rights", column, &says, || as_user("doctor-none", &[]))
}

async fn describe_but_not_read(column: &str) -> String {
    let says = [
        "READ on topic doctor-",
        "--operation Read --topic",
        "no record can be read",
    ];
    cell("describe", column, &says, || {
        as_user("doctor-describe", &["Describe", "DescribeConfigs"])
    })
}

async fn no_rights_on_the_group(column: &str) -> String {
    let says = [
        "DESCRIBE on group secret-group",
        "--operation Describe --group",
    ];
    cell("group", column, &says, || {
        let args = as_user("doctor-group", &["Read"]);
        with(args, &["--group", "secret-group"])
    })
}

async fn timestamps_of_the_future(column: &str) -> String {
    let says = ["by a producer's clock, which is 35", "set the clocks (NTP)"];
    cell("future", column, &says, || {
        let topic = admin::unique_topic("doctor");
        let bootstrap = shared().bootstrap();
        admin::create_topic(bootstrap, &topic, 1, &[]);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_ms = now.expect("a clock after 1970").as_millis();
        let ahead_ms = i64::try_from(now_ms).expect("a time") + 3_599_000;
        let record = Record::new(0).value("x").timestamp_ms(ahead_ms);
        produce::produce(bootstrap, &topic, &[record]);
        with(at(bootstrap), &["--topic", &topic])
    })
}

async fn client_in_a_rack_without_brokers(column: &str) -> String {
    let says = ["'client.rack' = 'moon' makes no difference"];
    cell("rack", column, &says, || {
        with(at(shared().bootstrap()), &["-X", "client.rack=moon"])
    })
}

async fn through_librdkafka(column: &str) -> String {
    let says = ["'librdkafka' reads", "READ is allowed: 2 records"];
    cell("librdkafka", column, &says, || {
        let over = [("kafka.client", "librdkafka")];
        with(over_tls(&over), &["--topic", &filled()])
    })
}

/// No build of the tests has Kerberos.
async fn kerberos_which_only_librdkafka_has(column: &str) -> String {
    let says = ["GSSAPI"];
    cell("kerberos", column, &says, || {
        over_tls(&[("sasl.mechanisms", "GSSAPI")])
    })
}

async fn partition_without_a_leader(column: &str) -> String {
    let says = [
        "1 of 3 partitions have no leader",
        "start the brokers that hold them",
        "offline[0] has replicas 2, of which in sync: none",
        "behind[0] lacks 2",
    ];
    cell("offline", column, &says, || {
        let mut cluster = KafkaCluster::start(3, &KafkaOptions::default());
        let bootstrap = cluster.node(1).bootstrap().to_owned();
        admin::create_replicated_topic(&bootstrap, "offline", &[&[2], &[1]], &[]);
        admin::create_replicated_topic(&bootstrap, "behind", &[&[1, 2]], &[]);
        cluster.node_mut(2).kill();
        wait_until(
            Duration::from_secs(60),
            "the partition has no leader",
            || {
                admin::leader(&bootstrap, "offline", 0)
                    .is_none()
                    .then_some(())
            },
        );
        let args = with(at(&bootstrap), &["--topic", "offline"]);
        Started::with(cluster, args)
    })
}
