use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::{code::Code, identity::node_key};

const THEN: Timestamp = Timestamp::from_secs(1_700_000_000);

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A folder with the publisher key `me` and the node key, and the paths of both.
fn keys() -> (tempfile::TempDir, PathBuf, [PathBuf; 2]) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("keys");
    Publisher::create(&dir, "me", THEN).unwrap();
    let node = dir.join(node_key::FILE_NAME);
    node_key::load_or_create(&node, &temp.path().join("owner")).unwrap();
    let paths = [dir.join("publishers/me.key"), node];
    (temp, dir, paths)
}

/// Both ways to load both keys must fail, with the same message, code and hint; gives message and hint.
fn refusals(dir: &Path, path: &Path) -> (String, String) {
    let errors = if path.ends_with(node_key::FILE_NAME) {
        let owner = dir.with_file_name("owner");
        [node_key::load(path).unwrap_err(), node_key::load_or_create(path, &owner).unwrap_err()]
    } else {
        [Publisher::load(dir, "me").unwrap_err(), Publisher::load_or_create(dir, "me", THEN).unwrap_err()]
    };
    let [first, second] = errors.map(|error| {
        assert_eq!(error.code(), Code::KeyFile, "{error}");
        assert!(!error.hint().is_empty(), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        (error.to_string(), error.hint())
    });
    assert_eq!(first, second);
    first
}

#[test]
fn keys_are_made_once_and_for_their_owner_alone() {
    let (temp, dir, paths) = keys();
    for path in &paths {
        assert_eq!(mode(path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }
    let publisher = Publisher::load(&dir, "me").unwrap();
    assert_eq!(Publisher::load_or_create(&dir, "me", Timestamp::default()).unwrap().id(), publisher.id());
    assert_ne!(Publisher::load_or_create(&dir, "other", THEN).unwrap().id(), publisher.id());
    let node = node_key::load(&paths[1]).unwrap().public().to_peer_id();
    assert_eq!(
        node_key::load_or_create(&paths[1], &temp.path().join("owner")).unwrap().public().to_peer_id(),
        node
    );
    assert_eq!(Publisher::list(&dir).unwrap(), ["me", "other"]);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "nothing is left over");
}

#[test]
fn a_key_is_never_replaced() {
    let (_temp, dir, paths) = keys();
    let before = fs::read(&paths[0]).unwrap();
    let error = Publisher::create(&dir, "me", THEN).unwrap_err();
    assert_eq!(error.code(), Code::Conflict);
    assert!(Publisher::from_secret([1; 32], THEN).store(&dir, "me").is_err());
    assert_eq!(fs::read(&paths[0]).unwrap(), before);
    // Not even where the name is that of a link to nowhere.
    symlink("nowhere", dir.join("publishers/link.key")).unwrap();
    assert_eq!(Publisher::create(&dir, "link", THEN).unwrap_err().code(), Code::Conflict);
    assert_eq!(Publisher::load_or_create(&dir, "link", THEN).unwrap_err().code(), Code::KeyFile);
}

#[test]
fn a_node_key_that_is_gone_is_missed_and_replaced_on_purpose_only() {
    let (temp, dir, paths) = keys();
    let owner = temp.path().join("owner");
    let peer = node_key::load(&paths[1]).unwrap().public().to_peer_id();
    fs::remove_file(&paths[1]).unwrap();
    let (message, hint) = {
        let error = node_key::load_or_create(&paths[1], &owner).unwrap_err();
        assert_eq!(error.code(), Code::KeyFile);
        (error.to_string(), error.hint())
    };
    assert!(message.contains(&peer.to_string()) && hint.contains("key new --node"), "{message}: {hint}");
    assert!(!paths[1].exists() && dir.exists());
    let new = node_key::create(&paths[1]).unwrap().public().to_peer_id();
    assert_eq!(node_key::load_or_create(&paths[1], &owner).unwrap().public().to_peer_id(), new);
    assert_eq!(fs::read_to_string(&owner).unwrap().trim(), new.to_string(), "from now on this one is missed");
}

#[test]
fn a_key_open_to_others_is_refused_with_the_command_that_closes_it() {
    let (_temp, dir, paths) = keys();
    for path in &paths {
        for open in [0o644, 0o640, 0o620, 0o604, 0o660, 0o601] {
            set_mode(path, open);
            let (message, hint) = refusals(&dir, path);
            assert!(message.contains(&format!("mode {open:04o}")), "{message}");
            assert_eq!(hint, format!("chmod 600 {}", path.display()));
        }
        set_mode(path, 0o400);
    }
    assert!(Publisher::load(&dir, "me").is_ok() && node_key::load(&paths[1]).is_ok());
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let (_temp, dir, _) = keys();
    set_mode(&dir.join("publishers"), 0o770);
    for error in [Publisher::load(&dir, "me").unwrap_err(), Publisher::create(&dir, "b", THEN).unwrap_err()] {
        assert_eq!(error.code(), Code::KeyFile);
        assert_eq!(error.hint(), format!("chmod 700 {}", dir.join("publishers").display()));
    }
}

#[test]
fn an_empty_key_file_stays_as_it_is() {
    let (_temp, dir, paths) = keys();
    for path in &paths {
        for nothing in ["", "\n"] {
            fs::write(path, nothing).unwrap();
            assert!(refusals(&dir, path).0.ends_with("is empty"));
            assert_eq!(fs::read_to_string(path).unwrap(), nothing);
        }
    }
}

#[test]
fn a_key_file_cut_off_anywhere_is_refused() {
    let (_temp, dir, paths) = keys();
    for path in &paths {
        let whole = fs::read(path).unwrap();
        for length in 1..whole.len() {
            fs::write(path, &whole[..length]).unwrap();
            let (message, _) = refusals(&dir, path);
            assert!(message.contains("cut off") || message.contains("damaged"), "{length}: {message}");
        }
        fs::write(path, &whole).unwrap();
    }
    assert!(Publisher::load(&dir, "me").is_ok(), "else nothing is proved");
}

#[test]
fn one_changed_digit_is_no_other_identity() {
    let (_temp, dir, paths) = keys();
    for path in &paths {
        let whole = fs::read_to_string(path).unwrap();
        for line in ["public: ", "secret: ", "sha256: "] {
            let at = whole.find(line).unwrap() + line.len() + 5;
            let digit = if &whole[at..=at] == "0" { "1" } else { "0" };
            let mut changed = whole.clone();
            changed.replace_range(at..=at, digit);
            fs::write(path, changed).unwrap();
            assert!(refusals(&dir, path).0.contains("is damaged"), "{line}");
        }
    }
}

#[test]
fn a_key_of_the_other_kind_is_refused() {
    let (_temp, dir, [publisher, node]) = keys();
    let (a, b) = (fs::read(&publisher).unwrap(), fs::read(&node).unwrap());
    fs::write(&publisher, b).unwrap();
    fs::write(&node, a).unwrap();
    assert!(refusals(&dir, &publisher).0.ends_with("holds a node key, where a publisher key is needed"));
    assert!(refusals(&dir, &node).0.ends_with("holds a publisher key, where a node key is needed"));
}

#[test]
fn what_is_no_key_file_is_refused() {
    let (_temp, dir, paths) = keys();
    for path in &paths {
        fs::write(path, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        assert!(refusals(&dir, path).0.ends_with("is not a key file"));
        fs::write(path, [0xff; 100]).unwrap();
        assert!(refusals(&dir, path).0.ends_with("is not a key file"));
        fs::write(path, vec![b'x'; crate::limits::KEY_FILE_BYTES_MAX + 1]).unwrap();
        assert!(refusals(&dir, path).0.ends_with("is too large to be a key file"));
    }
}

#[test]
fn a_directory_a_link_and_a_pipe_are_refused() {
    let (temp, dir, paths) = keys();
    for path in &paths {
        let elsewhere = temp.path().join("elsewhere.key");
        fs::rename(path, &elsewhere).unwrap();
        symlink(&elsewhere, path).unwrap();
        assert!(refusals(&dir, path).0.contains("is a symbolic link"));
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        assert!(refusals(&dir, path).0.contains("is a directory"));
        fs::remove_dir(path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
        assert!(refusals(&dir, path).0.contains("is not a regular file"));
    }
}

#[test]
fn a_key_that_cannot_be_read_is_refused() {
    let (_temp, dir, paths) = keys();
    for path in &paths {
        set_mode(path, 0);
        if fs::File::open(path).is_ok() {
            return; // The superuser reads everything.
        }
        let (message, hint) = refusals(&dir, path);
        assert!(message.ends_with("cannot be read"));
        assert!(hint.contains("chmod 600"));
    }
}

#[test]
fn a_key_that_is_gone_is_only_made_anew_where_that_is_asked_for() {
    let (_temp, dir, paths) = keys();
    fs::remove_file(&paths[0]).unwrap();
    let error = Publisher::load(&dir, "me").unwrap_err();
    assert!(matches!(error, Error::Missing { .. }));
    assert_eq!(error.code(), Code::KeyFile);
    assert!(!paths[0].exists());
}

#[test]
fn a_lost_key_is_missed_though_another_one_has_its_name() {
    let (_temp, dir, paths) = keys();
    let lost = Publisher::load(&dir, "me").unwrap();
    assert_eq!(Publisher::lost(&dir).unwrap(), []);
    fs::remove_file(&paths[0]).unwrap();
    Publisher::create(&dir, "me", THEN).unwrap();
    let missed = Publisher::lost(&dir).unwrap();
    assert_eq!(missed, [Lost { name: "me".to_owned(), id: lost.id().to_string() }]);
    let error = missed[0].error(&dir);
    assert!(error.hint().contains("key import me-2 <file>"));
    assert!(!error.to_string().contains("me-2"), "no file of that name was ever here: {error}");
    lost.store(&dir, "back").unwrap();
    assert_eq!(Publisher::lost(&dir).unwrap(), [], "it is here under another name");
}

#[test]
fn a_lost_key_is_replaced_by_its_recovery_keys_and_its_hint_names_the_way() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("keys");
    let recovery = RecoveryKey::from_secret([9; 32]);
    let first = Publisher::random_with_recovery(vec![recovery.public_key()], 1, THEN).unwrap();
    first.store(&dir, "me").unwrap();
    let path = path(&dir, "me").unwrap();
    fs::write(&path, "ggen-key 1\n").unwrap();
    let hint = Publisher::load(&dir, "me").unwrap_err().hint();
    assert!(hint.contains("me.key.damaged; ggen marketplace p2p key revoke me --recovery <file>"), "{hint}");
    fs::remove_file(&path).unwrap();
    let lost = Publisher::lost(&dir).unwrap().remove(0);
    assert!(lost.error(&dir).hint().contains("key revoke me --recovery <file>"));
    let log = documents::kept(&dir, &first.id()).unwrap().unwrap();
    let change = Change { revoked: log.current().keys.clone(), ..Change::default() };
    let strangers = [RecoveryKey::from_secret([8; 32])];
    assert!(Publisher::recovered(&log, change.clone(), &strangers, THEN).is_err());
    let next = Publisher::recovered(&log, change, &[recovery], THEN).unwrap();
    assert_eq!((next.id(), next.key_log().current().n), (first.id(), 1));
    assert!(next.key_log().is_revoked(&first.public_key()));
    next.store(&dir, &lost.free_name(&dir)).unwrap();
    assert_eq!(Publisher::lost(&dir).unwrap(), []);
    assert_eq!(Publisher::load(&dir, "me").unwrap().public_key(), next.public_key());
    let plain = Publisher::from_secret([1; 32], THEN);
    assert!(Publisher::recovered(plain.key_log(), Change::default(), &strangers, THEN).is_err());
}

#[test]
fn a_key_that_others_may_read_cannot_be_used_and_is_not_lost() {
    let (_temp, dir, paths) = keys();
    let own = Publisher::load(&dir, "me").unwrap().id();
    assert!(Publisher::unusable(&dir).unwrap().is_empty());
    fs::set_permissions(&paths[0], std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(Publisher::unusable(&dir).unwrap(), [own].into());
    fs::remove_file(&paths[0]).unwrap();
    assert!(Publisher::unusable(&dir).unwrap().is_empty(), "it is lost");
}

#[test]
fn names_that_could_leave_the_folder_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    for bad in ["", "../x", "a/b", "A", "a.b", "ä", "a b", &"x".repeat(33)] {
        assert_eq!(
            Publisher::create(&temp.path().join("keys"), bad, THEN).unwrap_err().code(),
            Code::Usage,
            "{bad}"
        );
    }
    assert!(Publisher::create(&temp.path().join("keys"), &"x".repeat(32), THEN).is_ok());
}

#[test]
fn an_exported_key_is_the_same_publisher_elsewhere() {
    let publisher = Publisher::from_secret([1; 32], THEN);
    let rotated = publisher.rotated(SecretKey::from_bytes(&[2; 32]), THEN).unwrap();
    let text = rotated.export();
    for text in [&text, text.trim_end(), &text.replace('\n', "\r\n"), &format!("\n{text}\n\n")] {
        let read = Publisher::import(text).unwrap();
        assert_eq!((read.id(), read.public_key()), (publisher.id(), rotated.public_key()));
        assert_eq!(read.key_log(), rotated.key_log());
    }
    let damaged = text.replacen("document: ", "document: 00", 1);
    assert_eq!(Publisher::import(&damaged).unwrap_err().code(), Code::KeyFile);
    assert!(matches!(Publisher::import(""), Err(Error::Text { flaw: Flaw::Empty })));
}

#[test]
fn a_replaced_key_is_refused() {
    let publisher = Publisher::from_secret([1; 32], THEN);
    let rotated = publisher.rotated(SecretKey::from_bytes(&[2; 32]), THEN).unwrap();
    let old = Contents { secret: publisher.secret.clone(), ..rotated.contents() };
    let error = Publisher::import(&old.write()).unwrap_err();
    assert!(matches!(error, Error::Text { flaw: Flaw::Replaced }), "{error}");
    let none = Contents { documents: vec![], ..rotated.contents() };
    assert!(matches!(Publisher::import(&none.write()), Err(Error::Text { flaw: Flaw::Documents })));
}

#[test]
fn two_at_once_agree_on_one_key() {
    let temp = tempfile::tempdir().unwrap();
    let ids: Vec<PublisherId> = std::thread::scope(|scope| {
        let make = || Publisher::load_or_create(&temp.path().join("keys"), "me", THEN).unwrap().id();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn the_file_format_is_fixed() {
    insta::assert_snapshot!(Publisher::from_secret([1; 32], THEN).export(), @r"
        ggen-key 1
        kind: publisher
        public: 8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c
        secret: 0101010101010101010101010101010101010101010101010101010101010101
        document: a2677061796c6f6164585fa7616e00646b6579738158208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c6673636f7065738067637265617465641a6553f1006776657273696f6e016870726576696f7573f6697468726573686f6c64016a7369676e61747572657381a2636b657958208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c637369675840cc24b26a6bed7d128f847b726f995468be9b5d9afc32ca291dfc1448e0afe50d04ada489e0db90ab151ca1acdfb08d837c9b0f1289291f428e2a36d2e2156007
        sha256: 92329d8a6aa0942aced01d10818e530991c38cddfe3d854e789a62d42260ab28
        ");
}

#[test]
fn how_many_key_documents_still_fit_is_told_before_the_chain_is_full() {
    let recovery: Vec<RecoveryKey> = (1..=2).map(|seed| RecoveryKey::from_secret([seed; 32])).collect();
    let counted = |keys: &[RecoveryKey]| {
        let mut publisher = Publisher::from_secret([9; 32], THEN);
        if !keys.is_empty() {
            let named = keys.iter().map(RecoveryKey::public_key).collect();
            let needed = u32::try_from(keys.len()).unwrap();
            let change = Change { recovery: Some((named, needed)), ..Change::default() };
            publisher = publisher.amended(change, &[], THEN).unwrap();
        }
        let mut foretold = Vec::new();
        while let Ok(next) = publisher.rotated_at_random(Change::default(), keys, THEN) {
            publisher = next;
            foretold.push(publisher.further_documents());
        }
        assert_eq!(publisher.further_documents(), 0);
        let documents = foretold.len();
        // Of the last three each says how many come after it.
        assert_eq!(foretold[documents - 3..], [2, 1, 0], "{foretold:?}");
        assert!(foretold.iter().enumerate().all(|(at, told)| documents - at > *told), "{foretold:?}");
        documents
    };
    // As docs/limits.md has it.
    assert_eq!([&[][..], &recovery[..1], &recovery].map(counted), [13, 10, 7]);
}
