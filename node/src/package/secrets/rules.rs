//! What tokens and keys of well-known providers look like: one table.
//!
//! The patterns are those that the providers publish for scanners. To add one, add a line: what it begins with, what may stand
//! behind that, and how many characters.

use std::ops::RangeInclusive;

/// What may stand in a token behind its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alphabet {
    /// `A-Z0-9`
    Upper,
    /// `0-9a-f`
    Hex,
    /// `A-Za-z0-9`
    Alnum,
    /// `A-Za-z0-9_`
    Word,
    /// `A-Za-z0-9_-`
    Url,
    /// `A-Za-z0-9_.-`
    Dotted,
    /// `A-Za-z0-9+/=`
    Base64,
    /// `A-Za-z0-9/`
    Path,
}

impl Alphabet {
    pub(super) fn has(self, byte: u8) -> bool {
        match self {
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Hex => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Word => byte.is_ascii_alphanumeric() || byte == b'_',
            Self::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Self::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
            Self::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='),
            Self::Path => byte.is_ascii_alphanumeric() || byte == b'/',
        }
    }
}

/// A kind of token.
#[derive(Debug)]
pub(super) struct Rule {
    /// What it begins with.
    pub(super) prefix: &'static str,
    /// What follows.
    pub(super) alphabet: Alphabet,
    /// How many characters of it.
    pub(super) len: RangeInclusive<usize>,
    /// What it is.
    pub(super) what: &'static str,
}

/// Characters behind the beginning of a token that are looked at: the longest there are.
pub(super) const TAIL_BYTES_MAX: usize = 512;

const fn rule(
    prefix: &'static str,
    alphabet: Alphabet,
    least: usize,
    most: usize,
    what: &'static str,
) -> Rule {
    Rule { prefix, alphabet, len: least..=most, what }
}

use Alphabet::{Alnum, Base64, Dotted, Hex, Path, Upper, Url, Word};

/// Every kind of token. No beginning is the beginning of another one, but for longer ones that stand before it.
#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    rule("AKIA", Upper, 16, 16, "an AWS access key"),
    rule("ASIA", Upper, 16, 16, "an AWS access key"),
    rule("ABIA", Upper, 16, 16, "an AWS access key"),
    rule("ACCA", Upper, 16, 16, "an AWS access key"),
    rule("github_pat_", Word, 70, 255, "a GitHub token"),
    rule("ghp_", Alnum, 36, 255, "a GitHub token"),
    rule("gho_", Alnum, 36, 255, "a GitHub token"),
    rule("ghu_", Alnum, 36, 255, "a GitHub token"),
    rule("ghs_", Alnum, 36, 255, "a GitHub token"),
    rule("ghr_", Alnum, 36, 255, "a GitHub token"),
    rule("glpat-", Dotted, 20, 300, "a GitLab token"),
    rule("gldt-", Url, 20, 300, "a GitLab token"),
    rule("glrt-", Dotted, 20, 300, "a GitLab token"),
    rule("glcbt-", Url, 20, 300, "a GitLab token"),
    rule("glptt-", Hex, 40, 40, "a GitLab token"),
    rule("glsoat-", Url, 20, 300, "a GitLab token"),
    rule("glft-", Url, 20, 300, "a GitLab token"),
    rule("glimt-", Url, 20, 300, "a GitLab token"),
    rule("glagent-", Url, 50, 300, "a GitLab token"),
    rule("xoxb-", Url, 20, 300, "a Slack token"),
    rule("xoxp-", Url, 20, 300, "a Slack token"),
    rule("xoxa-", Url, 20, 300, "a Slack token"),
    rule("xoxr-", Url, 20, 300, "a Slack token"),
    rule("xoxs-", Url, 20, 300, "a Slack token"),
    rule("xoxe-", Url, 20, 300, "a Slack token"),
    rule("xoxe.xox", Dotted, 20, 400, "a Slack token"),
    rule("xapp-", Url, 20, 300, "a Slack token"),
    rule("https://hooks.slack.com/services/", Path, 30, 100, "a Slack webhook"),
    rule("sk_live_", Alnum, 16, 255, "a Stripe key"),
    rule("rk_live_", Alnum, 16, 255, "a Stripe key"),
    rule("sk_test_", Alnum, 16, 255, "a Stripe key"),
    rule("rk_test_", Alnum, 16, 255, "a Stripe key"),
    rule("whsec_", Base64, 32, 100, "a Stripe webhook secret"),
    rule("npm_", Alnum, 36, 36, "an npm token"),
    rule("pypi-AgEIcHlwaS5vcmc", Url, 50, 400, "a PyPI token"),
    rule("pypi-AgENdGVzdC5weXBpLm9yZw", Url, 50, 400, "a PyPI token"),
    rule("cio", Alnum, 32, 32, "a crates.io token"),
    rule("rubygems_", Hex, 48, 48, "a RubyGems key"),
    rule("oy2", Alnum, 43, 43, "a NuGet key"),
    rule("dckr_pat_", Url, 27, 40, "a Docker Hub token"),
    rule("dckr_oat_", Url, 27, 40, "a Docker Hub token"),
    rule("AIza", Url, 35, 35, "a Google API key"),
    rule("GOCSPX-", Url, 28, 28, "a Google client secret"),
    rule("ya29.", Url, 30, 400, "a Google access token"),
    rule("SG.", Dotted, 66, 66, "a SendGrid key"),
    rule("key-", Hex, 32, 32, "a Mailgun key"),
    rule("sk-ant-", Url, 80, 200, "an Anthropic key"),
    rule("sk-proj-", Url, 40, 300, "an OpenAI key"),
    rule("sk-svcacct-", Url, 40, 300, "an OpenAI key"),
    rule("sk-admin-", Url, 40, 300, "an OpenAI key"),
    rule("hf_", Alnum, 34, 40, "a Hugging Face token"),
    rule("dop_v1_", Hex, 64, 64, "a DigitalOcean token"),
    rule("doo_v1_", Hex, 64, 64, "a DigitalOcean token"),
    rule("dor_v1_", Hex, 64, 64, "a DigitalOcean token"),
    rule("shpat_", Hex, 32, 32, "a Shopify token"),
    rule("shpss_", Hex, 32, 32, "a Shopify secret"),
    rule("shpca_", Hex, 32, 32, "a Shopify token"),
    rule("shppa_", Hex, 32, 32, "a Shopify token"),
    rule("sq0atp-", Url, 22, 60, "a Square token"),
    rule("sq0csp-", Url, 43, 60, "a Square secret"),
    rule("dapi", Hex, 32, 32, "a Databricks token"),
    rule("lin_api_", Alnum, 40, 40, "a Linear key"),
    rule("ntn_", Alnum, 40, 60, "a Notion token"),
    rule("glsa_", Word, 41, 41, "a Grafana token"),
    rule("glc_", Base64, 32, 400, "a Grafana token"),
    rule("hvs.", Url, 24, 300, "a HashiCorp Vault token"),
    rule("hvb.", Url, 100, 400, "a HashiCorp Vault token"),
    rule("NRAK-", Upper, 27, 27, "a New Relic key"),
    rule("HRKU-AA", Url, 50, 80, "a Heroku key"),
    rule("sbp_", Hex, 40, 40, "a Supabase token"),
    rule("dp.pt.", Alnum, 40, 44, "a Doppler token"),
    rule("PMAK-", Url, 59, 59, "a Postman key"),
    rule("AccountKey=", Base64, 88, 88, "an Azure storage key"),
    rule("SharedAccessKey=", Base64, 44, 44, "an Azure access key"),
    rule("AGE-SECRET-KEY-1", Upper, 58, 58, "an age key"),
    rule("PuTTY-User-Key-File-", Alnum, 1, 2, "a PuTTY private key"),
    rule("tskey-", Url, 20, 100, "a Tailscale key"),
    rule("EAACEdEose0cBA", Alnum, 20, 400, "a Facebook token"),
    rule("ATATT3xFf", Url, 100, 400, "an Atlassian token"),
];

/// What begins a private key in text form; the kind of key and five dashes follow.
pub(super) const PEM: &str = "-----BEGIN ";

/// Words behind which a secret stands, where `=` or `:` and a value follow; compared without regard to case.
pub(super) const ASSIGNED: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "client_secret",
    "secret_key",
    "secretkey",
    "secret_access_key",
    "api_key",
    "apikey",
    "api-key",
    "access_token",
    "auth_token",
    "authtoken",
    "_auth",
    "private_key",
    "bearer_token",
];

/// What a value holds that stands in the place of a secret in examples and code, in lower case.
pub(super) const PLACEHOLDERS: &[&str] = &[
    "example",
    "changeme",
    "change_me",
    "change-me",
    "placeholder",
    "your",
    "dummy",
    "redacted",
    "insert",
    "replace",
    "xxxx",
    "****",
    "....",
    "environ",
    "process.env",
    "getpass",
    "getenv",
    "${",
    "{{",
    "<%",
    "%(",
];

/// The same where it is the whole value.
pub(super) const PLACEHOLDER_WORDS: &[&str] = &[
    "secret",
    "password",
    "passwd",
    "passphrase",
    "string",
    "required",
    "optional",
    "undefined",
    "hidden",
    "prompt",
    "config",
    "boolean",
    "default",
    "unchanged",
];

/// Names of files that hold credentials by convention, in lower case; examples of them are no secrets.
pub(super) const FILES: &[&str] = &[
    ".env",
    ".netrc",
    "_netrc",
    ".pypirc",
    ".git-credentials",
    ".pgpass",
    ".my.cnf",
    ".htpasswd",
    ".dockercfg",
    ".s3cfg",
    ".boto",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_ecdsa_sk",
    "id_ed25519_sk",
    "credentials.toml",
    "service-account.json",
    "kubeconfig",
    "wallet.dat",
    ".vault-token",
    ".terraformrc",
    "terraform.tfstate",
];

/// The same of files in a folder of a certain name, where the name of the file alone says little.
pub(super) const FILES_IN_FOLDERS: &[(&str, &str)] = &[
    (".aws", "credentials"),
    (".cargo", "credentials"),
    (".docker", "config.json"),
    (".kube", "config"),
    (".gem", "credentials"),
    (".azure", "accesstokens.json"),
    ("gcloud", "credentials.db"),
    ("gh", "hosts.yml"),
];

/// Files that hold credentials where one of these words stands in them.
pub(super) const FILES_WITH: &[(&str, &[&str])] = &[
    (".npmrc", &["_authtoken", "_auth", "_password"]),
    (".yarnrc", &["_authtoken", "_auth", "npmauthtoken"]),
    (".yarnrc.yml", &["npmauthtoken", "npmauthident"]),
    ("nuget.config", &["cleartextpassword"]),
    ("settings.xml", &["<password>"]),
    ("gradle.properties", &["password=", "signing.keyid"]),
];

/// Endings of files that hold private keys in a binary form.
pub(super) const ENDINGS: &[&str] = &[".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".ppk"];
