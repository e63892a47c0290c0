//! Tokens are put together here, so that this file itself holds none.

use std::time::Duration;

use proptest::prelude::*;

use super::{rules::RULES, *};

fn found(name: &str, text: &str) -> Vec<(usize, String)> {
    let bytes = text.as_bytes();
    in_bytes(name, bytes).into_iter().map(|secret| (line(bytes, secret.at), secret.what)).collect()
}

/// A token that a rule describes, of so many characters behind its beginning.
fn token(rule: &Rule, len: usize) -> String {
    let letters: Vec<char> = (33..127u8).filter(|byte| rule.alphabet.has(*byte)).map(char::from).collect();
    let tail = (0..len).map(|at| letters[at * 7 % letters.len()]);
    rule.prefix.chars().chain(tail).collect()
}

#[test]
fn every_rule_finds_its_tokens_and_shows_none_of_them_whole() {
    for rule in RULES {
        for len in [*rule.len.start(), (*rule.len.end()).min(TAIL_BYTES_MAX)] {
            let token = token(rule, len);
            let text = format!("a\nb = '{token}'\n");
            let found = found("x.rs", &text);
            let [(2, what)] = found.as_slice() else { panic!("{}: {found:?}", rule.prefix) };
            assert!(what.contains(rule.what) && !what.contains(&token), "{what}");
            assert!(what.len() < rule.what.len() + rule.prefix.len() + 30, "{what}");
        }
    }
}

#[test]
fn what_is_too_short_too_long_or_inside_a_word_is_no_token() {
    for rule in RULES {
        let (least, most) = (*rule.len.start(), *rule.len.end());
        let longest = token(rule, most);
        // The rest of a longer one may be a token of another kind.
        let is_found = |text: &str| found("x.rs", text).iter().any(|(_, what)| what.contains(rule.what));
        assert!(!is_found(&token(rule, least - 1)), "{} too short", rule.prefix);
        assert!(!is_found(&format!("x{longest}")), "{} inside a word", rule.prefix);
        if most < TAIL_BYTES_MAX {
            assert!(!is_found(&token(rule, most + 1)), "{} too long", rule.prefix);
        }
    }
}

#[test]
fn keys_in_text_form_are_found_and_certificates_are_not() {
    for kind in [
        "RSA PRIVATE KEY",
        "PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "PGP PRIVATE KEY BLOCK",
        "ENCRYPTED PRIVATE KEY",
    ] {
        let text = format!("x\n{PEM}{kind}-----\nMII");
        assert_eq!(found("a.pem", &text), [(2, "it holds a private key".to_owned())], "{kind}");
    }
    for kind in ["CERTIFICATE", "PUBLIC KEY", "RSA PUBLIC KEY"] {
        assert_eq!(found("a.pem", &format!("{PEM}{kind}-----\nMII")), [], "{kind}");
    }
}

#[test]
fn values_that_are_set_are_found_where_they_stand_themselves() {
    for (name, text) in [
        ("settings.toml", "password = \"hunter2\""),
        ("settings.toml", "password = hunter2"),
        ("app.ini", "[db]\nDB_PASSWORD=supersecret"),
        ("a.json", "{\"password\": \"correct-horse\"}"),
        ("a.yaml", "  passwd:   Tr0ub4dor&3"),
        ("a.py", "PASSWORD = 'hunter2'"),
        ("a.rb", ":password => \"hunter2\""),
        ("deploy.sh", "export API_KEY=a1b2c3d4e5f6a7b8"),
        ("a.js", "const client_secret = \"a1b2c3d4e5f6a7b8\""),
        ("Dockerfile", "ENV PASSWORD=hunter2"),
        (".config", "passphrase: open-sesame"),
    ] {
        let found = found(name, text);
        assert_eq!(found.len(), 1, "{name}: {text}: {found:?}");
        assert!(!found[0].1.contains("hunter2"), "{found:?}");
    }
}

#[test]
fn programs_documents_and_examples_set_nothing() {
    for (name, text) in [
        ("a.py", "password = os.environ['PASSWORD']"),
        ("a.py", "password = getpass()"),
        ("a.rs", "let password = read();"),
        ("a.rs", "password: String,"),
        ("a.rs", "if password == \"hunter2\" {"),
        ("a.js", "label: 'Password: ', password: \"Enter a password here\""),
        ("a.md", "password = \"hunter2\""),
        ("a.toml", "password = \"${PASSWORD}\""),
        ("a.toml", "password = \"<your password>\""),
        ("a.toml", "password = \"changeme\""),
        ("a.yaml", "password: {{ vault }}"),
        ("a.yaml", "password: \"********\""),
        ("a.yaml", "password:\n  type: string"),
        ("a.json", "{\"password\": \"string\", \"api_key\": \"YOUR_KEY_123456\"}"),
        ("a.toml", "password_file = \"/run/secrets/db1\""),
        ("a.toml", "passwords = \"hunter2-and-more\""),
        ("a.toml", "password = \"\""),
        ("a.c", "std::password::of"),
    ] {
        assert_eq!(found(name, text), [], "{name}: {text}");
    }
}

#[test]
fn files_of_credentials_are_known_by_name_or_by_what_they_hold() {
    for (folder, name) in [
        ("", ".env"),
        ("", ".env.production"),
        ("", ".netrc"),
        ("x", "id_rsa"),
        ("x", "ID_ED25519"),
        ("", "credentials.toml"),
        (".cargo", "credentials"),
        (".aws", "credentials"),
        ("", "server.p12"),
    ] {
        assert!(by_name(folder, name).is_some(), "{folder}/{name}");
    }
    for (folder, name) in [
        ("", ".env.example"),
        ("", "id_rsa.pub"),
        ("", "credentials"),
        ("src", "credentials.rs"),
        ("", ".npmrc"),
        ("", "environment"),
    ] {
        assert_eq!(by_name(folder, name), None, "{folder}/{name}");
    }
    assert_eq!(found(".npmrc", "registry=https://r/\n//r/:_authToken=x").len(), 1);
    assert_eq!(found(".npmrc", "registry=https://r/\nsave-exact=true"), []);
}

#[test]
fn examples_in_documents_are_no_secrets() {
    let aws = |rest: &str| format!("AK{}{rest}", "IA");
    let text = [aws("IOSFODNN7EXAMPLE"), format!("ghp{}{}", "_", "x".repeat(36)), aws("AAAAAAAAAAAAAAAA")]
        .join("\n");
    assert_eq!(found("README.md", &text), []);
}

#[test]
fn text_of_two_bytes_a_letter_is_read_too() {
    let text = format!("a\nx = AK{}ABCDEFGHIJ234567\n", "IA");
    let wide = |unit: u16| unit.to_le_bytes();
    let bytes: Vec<u8> = [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(wide)).collect();
    let found = in_bytes("a.txt", &bytes);
    assert_eq!(found.len(), 1);
    assert_eq!(line(&bytes, found[0].at), 2);
}

#[test]
fn a_file_full_of_beginnings_costs_no_more_than_its_bytes() {
    let mut beginnings: Vec<String> = RULES.iter().map(|rule| rule.prefix.to_owned()).collect();
    beginnings.extend([PEM, "password=", "password = \"", "secret: "].map(str::to_owned));
    for beginning in beginnings {
        let bytes = beginning.repeat((64 << 10) / beginning.len()).into_bytes();
        let started = tokio::time::Instant::now();
        let found = in_bytes("a.txt", &bytes);
        assert!(found.len() <= FINDINGS_MAX);
        // It takes milliseconds, or a second without optimisation; one reading of the rest for each beginning takes minutes.
        assert!(started.elapsed() < Duration::from_secs(20), "{beginning}: {:?}", started.elapsed());
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, text in "(password|AKIA|ghp_|secret: |[ =:\"'\n]|[a-z0-9]{1,9}){0,20}") {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            for name in ["a.toml", ".npmrc", "a.rs", ""] {
                for secret in in_bytes(name, bytes) {
                    prop_assert!(line(bytes, secret.at) >= 1);
                }
            }
            let _ = own::find(bytes);
        }
    }

    #[test]
    fn a_token_is_found_wherever_it_stands(before in "[ a-z\n=\"]{0,40}", after in "[ \n\"',;)]{1,9}") {
        let token = format!("ghp{}{}", "_", "a1B2c3".repeat(6));
        let found = found("a.rs", &format!("{before} {token}{after}"));
        prop_assert_eq!(found.len(), 1);
    }
}
