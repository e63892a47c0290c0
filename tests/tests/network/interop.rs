//! Other implementations: js-libp2p, and IPFS's own importer.
//!
//! The packages come from npm, which needs the network. Where they cannot be had the tests say so and are passed over,
//! except where `CI` is set, as `.ci/run` does once it has seen that they can be had.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
};

use ggen_marketplace::{network::PROTOCOL_VERSION, package::PackageId, release::dht_key};
use libp2p::Multiaddr;
use serde_json::Value;

use crate::{
    SOON, eventually,
    node::{noise, package, sample, start, start_in},
};

/// The folder with the scripts and their packages, installed once for all runs.
fn installed() -> Option<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(install) {
        Ok(folder) => Some(folder),
        Err(why) => {
            assert!(std::env::var("CI").is_err(), "the packages of tests/js are needed: {why}");
            // Not by a macro, of which a test that passes shows nothing.
            writeln!(std::io::stderr(), "skipped: the packages of tests/js cannot be had: {why}")
                .expect("standard error takes a line");
            None
        }
    }
}

fn install() -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("js");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("js");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let lock = std::fs::read(source.join("package-lock.json")).map_err(|error| error.to_string())?;
    for name in ["package.json", "package-lock.json", "peer.js", "relay.js", "unixfs-root.js"] {
        std::fs::copy(source.join(name), folder.join(name)).map_err(|error| error.to_string())?;
    }
    // What was installed for exactly this lock file is used again.
    let done = folder.join("installed-for");
    if std::fs::read(&done).is_ok_and(|held| held == lock) {
        return Ok(folder);
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&folder);
    let output = npm.output().map_err(|error| format!("npm: {error}"))?;
    if !output.status.success() {
        return Err(format!("npm ci: {}", String::from_utf8_lossy(&output.stderr)));
    }
    std::fs::write(done, lock).map_err(|error| error.to_string())?;
    Ok(folder)
}

/// The Node.js that the packages bring along.
fn node_js(folder: &Path, script: &str) -> Command {
    let mut command = Command::new(folder.join("node_modules/node/bin/node"));
    command.arg(folder.join(script)).stderr(Stdio::inherit());
    command
}

/// Runs a script that prints one JSON object a line; `on_line` sees each as it comes.
async fn lines(mut command: Command, mut on_line: impl FnMut(Value) + Send + 'static) -> bool {
    let run = move || {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            on_line(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")));
        }
        child.wait().unwrap().success()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// Where js-libp2p is used over QUIC: that takes a native library, which the registry has not for every machine.
const HAS_QUIC: bool = cfg!(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"));

#[tokio::test(flavor = "multi_thread")]
async fn js_libp2p_connects_asks_the_dht_and_hears_announcements() {
    js_libp2p_meets_a_node(TCP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn js_libp2p_does_the_same_over_quic() {
    if HAS_QUIC {
        js_libp2p_meets_a_node(QUIC).await;
    }
}

async fn js_libp2p_meets_a_node(listens: &str) {
    let Some(folder) = installed() else { return };
    let temp = tempfile::tempdir().unwrap();
    let home = Arc::new(tempfile::tempdir().unwrap());
    let node = start_in(home, &[], |config| config.listen_addresses = vec![listens.parse().unwrap()]).await;
    let published = node.publish_dir(&package(temp.path(), "crossing", "1.0.0", &[])).await;
    let id: PackageId = format!("{}/{}", published.publisher, published.name).parse().unwrap();
    let key = dht_key(&id).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut command = node_js(folder, "peer.js");
    command.args([node.address().to_string(), published.cid.clone(), key]);
    let (steps, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let running = tokio::spawn(lines(command, move |line| drop(steps.send(line))));
    let me = Value::from(node.peer_id().to_string());
    let mut next = async |step: &str| {
        let line: Value = seen.recv().await.unwrap_or_else(|| panic!("it ended before \"{step}\""));
        assert_eq!(line["step"], step, "{line}");
        line
    };
    let connected = next("connected").await;
    assert_eq!(connected["peer"], me);
    if listens == QUIC {
        assert!(connected["address"].as_str().unwrap().contains("/quic-v1"), "{connected}");
        assert_eq!((&connected["encryption"], &connected["muxer"]), (&"native".into(), &"quic".into()));
    } else {
        assert!(connected["encryption"].as_str().unwrap().ends_with("/noise"), "{connected}");
        assert!(connected["muxer"].as_str().unwrap().contains("yamux"), "{connected}");
    }
    let identified = next("identified").await;
    assert_eq!(identified["protocolVersion"], PROTOCOL_VERSION);
    assert!(identified["agentVersion"].as_str().unwrap().starts_with("ggen/"), "{identified}");
    let protocols = identified["protocols"].as_array().unwrap();
    assert!(protocols.contains(&Value::from("/ggen/kad/1.0.0")), "{identified}");
    assert!(next("closest").await["peers"].as_array().unwrap().contains(&me));
    assert!(next("providers").await["peers"].as_array().unwrap().contains(&me));
    let value = next("value").await;
    assert_eq!(value["from"], me);
    assert!(next("pinged").await["milliseconds"].is_number());
    next("subscribed").await;
    let second = node.publish_dir(&package(temp.path(), "announced", "1.0.0", &[])).await;
    assert!(second.announced_to >= 1, "{second:?}");
    let announcement = next("announcement").await;
    assert_eq!((&announcement["signed"], &announcement["from"]), (&Value::from("signed"), &me));
    let head = ggen_marketplace::release::VerifiedHead::verify(
        &unhex(announcement["hex"].as_str().unwrap()),
        ggen_marketplace::time::Timestamp::now(),
    );
    // Publishing tells again of what was published alone, so either of the two may come first.
    let name = head.unwrap().head().name.to_string();
    assert!(["announced", "crossing"].contains(&name.as_str()), "{name}");
    let value = ggen_marketplace::release::VerifiedHead::verify(
        &unhex(value["hex"].as_str().unwrap()),
        ggen_marketplace::time::Timestamp::now(),
    );
    assert_eq!(value.unwrap().package_id(), id);
    assert!(running.await.unwrap(), "it ended well");
}

#[tokio::test(flavor = "multi_thread")]
async fn js_libp2p_is_reached_through_a_node() {
    let Some(folder) = installed() else { return };
    let relay = start(&[]).await;
    let mut command = node_js(folder, "relay.js");
    command.args(["through", &relay.address().to_string()]);
    let (steps, mut seen) = tokio::sync::mpsc::unbounded_channel();
    assert!(lines(command, move |line| drop(steps.send(line))).await, "it ended well");
    let reserved: Value = seen.recv().await.unwrap();
    let through = format!("{}/p2p-circuit/p2p/", relay.address());
    let peer = reserved["address"].as_str().unwrap().strip_prefix(&through);
    let peer = peer.unwrap_or_else(|| panic!("{reserved}")).to_owned();
    let pinged: Value = seen.recv().await.unwrap();
    assert_eq!((&pinged["peer"], &pinged["limited"]), (&peer.into(), &true.into()), "{pinged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_reached_through_js_libp2p() {
    a_package_comes_through_js_libp2p(TCP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_reached_through_js_libp2p_over_quic() {
    if HAS_QUIC {
        a_package_comes_through_js_libp2p(QUIC).await;
    }
}

/// Two nodes dial js-libp2p, which relays what one of them fetches from the other.
async fn a_package_comes_through_js_libp2p(listens: &str) {
    let Some(folder) = installed() else { return };
    let mut command = node_js(folder, "relay.js");
    // Its end of this pipe is what it waits for.
    let mut relay =
        command.args(["serve", listens]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(relay.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let listening: Value = serde_json::from_str(&line).unwrap();
    let at: Multiaddr = listening["address"].as_str().unwrap().parse().unwrap();
    assert_eq!(at.to_string().contains("/quic-v1"), listens == QUIC, "{at}");
    let home = Arc::new(tempfile::tempdir().unwrap());
    let hidden =
        start_in(home.clone(), std::slice::from_ref(&at), |config| config.listen_addresses.clear()).await;
    let through = eventually("reached through the relay", SOON, async || {
        hidden.status().await.reachability.relay_addresses.first().cloned()
    })
    .await;
    assert_eq!(through, format!("{at}/p2p-circuit/p2p/{}", hidden.peer_id()));
    hidden.publish_dir(&package(home.path(), "crossing", "1.0.0", &[])).await;
    let reader = start(&[through.parse().unwrap()]).await;
    let to = home.path().join("out");
    reader.install("crossing", &to, 30).await.unwrap();
    assert!(to.join("gpack.toml").exists());
    drop(relay.stdin.take());
    assert!(relay.wait().unwrap().success());
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_has_the_content_id_that_ipfs_gives_its_folder() {
    let Some(folder) = installed() else { return };
    let temp = tempfile::tempdir().unwrap();
    let node = start(&[]).await;
    let chunk = 1 << 20;
    let odd = [0, 1, 255, chunk - 1, chunk, chunk + 1, 2 * chunk, 3 * chunk + 17];
    let names: Vec<String> = odd.iter().map(|size| format!("deep/er/{size}.bin")).collect();
    let files: Vec<(&str, Vec<u8>)> =
        names.iter().zip(odd).map(|(name, size)| (name.as_str(), noise(5, size))).collect();
    let many: Vec<String> = (0..300).map(|n| format!("many/ä-{n:03}.txt")).collect();
    let many: Vec<(&str, Vec<u8>)> =
        many.iter().map(|name| (name.as_str(), name.clone().into_bytes())).collect();
    for directory in [
        package(temp.path(), "odd", "1.0.0", &files),
        package(temp.path(), "many", "1.0.0", &many),
        sample(temp.path(), "mixed", "1.0.0"),
    ] {
        let published = node.publish_dir(&directory).await;
        let output = node_js(folder, "unixfs-root.js").arg(&directory).output().unwrap();
        assert!(output.status.success());
        let theirs = String::from_utf8(output.stdout).unwrap();
        assert_eq!(published.cid, theirs.trim(), "{}", directory.display());
    }
}
