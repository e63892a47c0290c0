//! The socket file: where it is, who may reach it, and paths that are too long for the system's address.

use std::{
    fs::{File, Permissions},
    io,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::{UnixListener, UnixStream};

use super::SOCKET_NAME;

/// Bytes that every system takes as the path of a socket (macOS has 104 with the closing zero, Linux 108).
const ADDRESS_BYTES_MAX: usize = 103;
/// How often, and how long apart, a connection is tried while the node's queue of connections is full.
const CONNECT_TRIES: u32 = 40;
const CONNECT_PAUSE: Duration = Duration::from_millis(50);

/// A path that fits into a socket address, together with the folder that must stay open for it.
struct Address {
    path: PathBuf,
    _folder: Option<File>,
}

impl Address {
    /// Names `file` in `folder`; a path that is too long goes through the open folder, where the system allows that.
    fn of(folder: &Path, file: &str) -> io::Result<Self> {
        let path = folder.join(file);
        if path.as_os_str().len() <= ADDRESS_BYTES_MAX || !cfg!(target_os = "linux") {
            return Ok(Self { path, _folder: None });
        }
        let open = File::open(folder)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{file}", open.as_raw_fd()));
        Ok(Self { path, _folder: Some(open) })
    }
}

/// Binds the socket of `home`, readable and writable by its owner only from the first moment on.
///
/// It is made in a folder of its own that nobody else can enter, and renamed to its place, so that neither the umask nor the
/// mode of `home` matters. The rename replaces the socket of a dead node; the caller holds the lock of `home`.
pub(super) fn bind(home: &Path) -> io::Result<UnixListener> {
    let private = tempfile::Builder::new()
        .prefix(".control-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(home)?;
    let address = Address::of(private.path(), SOCKET_NAME)?;
    let listener = UnixListener::bind(&address.path)?;
    let bound = private.path().join(SOCKET_NAME);
    std::fs::set_permissions(&bound, Permissions::from_mode(0o600))?;
    std::fs::rename(&bound, home.join(SOCKET_NAME))?;
    Ok(listener)
}

/// Connects to the socket of `home`; waits up to two seconds while the node's queue is full.
pub(super) async fn connect(home: &Path) -> io::Result<UnixStream> {
    let address = Address::of(home, SOCKET_NAME)?;
    let mut tries = 1;
    loop {
        match UnixStream::connect(&address.path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < CONNECT_TRIES => {
                tries += 1;
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
            result => return result,
        }
    }
}
