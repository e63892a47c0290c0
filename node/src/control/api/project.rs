//! The shapes of the verbs that work on a project: a directory with a `gpack.toml`.

use std::{
    ffi::OsString,
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A path as it crosses the socket: text, or where it is not UTF-8, `{"hex": "…"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnyPath(pub PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hex {
    hex: String,
}

impl From<&Path> for AnyPath {
    fn from(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl fmt::Display for AnyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Serialize for AnyPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => {
                let hex = self.0.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                Hex { hex }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for AnyPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Bytes(Hex),
        }
        let hex = match Either::deserialize(deserializer)? {
            Either::Text(text) => return Ok(Self(text.into())),
            Either::Bytes(Hex { hex }) => hex,
        };
        let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| {
            let text = std::str::from_utf8(pair).ok().filter(|text| !text.starts_with('+'))?;
            u8::from_str_radix(text, 16).ok()
        };
        let bytes: Option<Vec<u8>> = if rest.is_empty() { pairs.iter().map(byte).collect() } else { None };
        let bytes = bytes.ok_or_else(|| de::Error::custom("a path is not hexadecimal"))?;
        Ok(Self(OsString::from_vec(bytes).into()))
    }
}

/// What is done to a project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum ProjectAction {
    /// `install`: makes the folders what `gpack.toml` and `gpack.lock` say.
    #[default]
    Install,
    /// `add`: asks for more packages.
    Add {
        /// Each as `[publisher/]name[@range]`.
        packages: Vec<String>,
        /// The short name, where one package is added.
        #[serde(default, rename = "as")]
        alias: Option<String>,
    },
    /// `remove`: asks for some no more.
    Remove {
        /// Short names, names or ids.
        packages: Vec<String>,
    },
    /// `update`: takes the newest versions that the ranges allow.
    Update {
        /// Short names, names or ids; all packages where there are none.
        #[serde(default)]
        packages: Vec<String>,
        /// The version to take, where one package is updated.
        #[serde(default)]
        precise: Option<String>,
    },
}

/// `add`, `install`, `remove` and `update` of a project, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectRequest {
    /// The directory with the `gpack.toml`, absolute.
    pub directory: AnyPath,
    /// What is done.
    #[serde(default)]
    pub action: ProjectAction,
    /// Fails where `gpack.lock` does not answer `gpack.toml`, and never writes it.
    #[serde(default)]
    pub locked: bool,
    /// Takes `gpack.lock` as it stands: nobody is asked for versions, and `gpack.toml` is not compared with it.
    #[serde(default)]
    pub frozen: bool,
    /// Takes nothing from other nodes.
    #[serde(default)]
    pub offline: bool,
    /// Replaces folders that somebody changed; they are kept aside.
    #[serde(default)]
    pub force: bool,
    /// Tells what would be done, and does nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Seconds in all.
    #[serde(default)]
    pub timeout_secs: Option<u64>,
}

/// A package of a project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectPackage {
    /// Full id with version.
    pub id: String,
    /// Its short name, or its name.
    pub name: String,
    /// The version.
    pub version: String,
    /// The content id of the tree.
    pub cid: String,
    /// Where it is.
    pub path: AnyPath,
    /// Whether the project asks for it itself.
    pub direct: bool,
}

/// A package whose version is another one now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectChange {
    /// Full id without version.
    pub id: String,
    /// Its short name, or its name.
    pub name: String,
    /// The version before; absent where it is new.
    pub from: Option<String>,
    /// The version after; absent where it is gone.
    pub to: Option<String>,
}

/// `add`, `install`, `remove` and `update` of a project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectDone {
    /// The directory.
    pub directory: AnyPath,
    /// The folder that holds the packages.
    pub folder: AnyPath,
    /// Every package, by id.
    pub packages: Vec<ProjectPackage>,
    /// What changed in `gpack.lock`, by id.
    pub changes: Vec<ProjectChange>,
    /// Folders that get another content, or would; one that was changed by hand and is put right has the same version twice.
    #[serde(default)]
    pub folders: Vec<ProjectChange>,
    /// Folders that were written, or would be; the others held what they should already.
    pub written: usize,
    /// Folders that were removed, or would be.
    pub removed: usize,
    /// Folders that hold something else than was signed, and that stay so.
    #[serde(default)]
    pub altered: Vec<AnyPath>,
    /// Files of the project that were written, or would be: `gpack.lock`, `gpack.toml`.
    #[serde(default)]
    pub files: Vec<String>,
    /// Bytes that came over the network now; the rest was here already.
    pub bytes_fetched: u64,
    /// Where folders are that somebody had changed and that were replaced.
    pub kept: Vec<AnyPath>,
    /// Whether nothing was done, because only what would be done was asked for.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether a change that an earlier command began was completed first.
    #[serde(default)]
    pub recovered: bool,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// `outdated`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutdatedRequest {
    /// The directory with the `gpack.toml`, absolute.
    pub directory: AnyPath,
    /// Seconds in all.
    #[serde(default)]
    pub timeout_secs: Option<u64>,
}

/// `outdated`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outdated {
    /// The packages of which there is a newer version, by id.
    pub packages: Vec<OutdatedPackage>,
    /// Packages that were looked at.
    pub total: usize,
    /// How many of them nobody who was asked could tell newer versions of.
    #[serde(default)]
    pub unheard: usize,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// A package of which there is a newer version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutdatedPackage {
    /// Full id without version.
    pub id: String,
    /// Its short name, or its name.
    pub name: String,
    /// The version that is locked.
    pub current: String,
    /// The newest that every range allows.
    pub wanted: String,
    /// The newest stable one.
    pub latest: String,
    /// Whether the project asks for it itself.
    pub direct: bool,
    /// Why the locked version was yanked, where it was.
    pub yanked: Option<String>,
    /// What to use in place of the package, where its publisher says that it should no longer be used.
    #[serde(default)]
    pub deprecated: Option<String>,
    /// Whether its publisher withdrew the content that is locked when it ended a double signing.
    #[serde(default)]
    pub withdrawn: bool,
}

/// `tree`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectTree {
    /// One line after the other, from the top.
    pub lines: Vec<ProjectBranch>,
    /// Packages in all.
    pub total: usize,
    /// How `gpack.lock` does not answer `gpack.toml`.
    pub warnings: Vec<String>,
}

/// One line of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectBranch {
    /// Steps from the project.
    pub depth: usize,
    /// Full id without version.
    pub id: String,
    /// Its short name, or its name.
    pub name: String,
    /// The version that is locked; absent where none is.
    pub version: Option<String>,
    /// The range that is asked for.
    pub range: String,
    /// What it needs stands further up.
    pub repeated: bool,
    /// Whether its publisher yanked the version, as far as is known on this machine.
    #[serde(default)]
    pub yanked: bool,
    /// What to use in place of the package, where its publisher says that it should no longer be used, as far as is known here.
    #[serde(default)]
    pub deprecated: Option<String>,
    /// Whether its publisher withdrew the content that is locked when it ended a double signing, as far as is known here.
    #[serde(default)]
    pub withdrawn: bool,
    /// Whether the package is frozen, as far as is known here.
    #[serde(default)]
    pub frozen: bool,
}

/// `why`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectWhy {
    /// Full id with version.
    pub id: String,
    /// Its short name, or its name.
    pub name: String,
    /// A chain from the project for each package that asks for it; the shortest first.
    pub chains: Vec<Vec<ProjectBranch>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_text_crosses_the_socket_as_it_was() {
        let odd = [&b"/a b"[..], b"/two\nlines", b"/\xff\xfe", "/grüße".as_bytes(), b""];
        for bytes in odd {
            let path = AnyPath(OsString::from_vec(bytes.to_vec()).into());
            let wire = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<AnyPath>(&wire).unwrap(), path, "{wire}");
        }
        for bad in [r#"{"hex":"f"}"#, r#"{"hex":"zz"}"#, r#"{"hex":"+1"}"#, "7", r#"{"hex":"ff","more":1}"#] {
            assert!(serde_json::from_str::<AnyPath>(bad).is_err(), "{bad}");
        }
    }
}
