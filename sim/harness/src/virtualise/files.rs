//! Functions of libc that change files. A [`Watcher`] of the thread is asked before each of them and told what came of it; on
//! a thread without one they are system calls and nothing else.
//!
//! Rust's standard library and SQLite call the functions that stand here. So does rustix, but only where it was built for
//! libc: the manifest of this crate asks for that. What is read, locked, mapped or closed is not replaced.
//!
//! This file knows no disks: it turns a call into a [`Call`], which is safe to look at.

use std::{
    cell::{Cell, RefCell},
    ffi::{CStr, OsStr, OsString, c_char, c_int, c_long, c_uint, c_void},
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{failed, real};

/// Bytes of the longest name of a folder that is looked up.
const PATH_BYTES_MAX: usize = 4_096;

/// A call that would change something.
#[derive(Debug)]
pub enum Call<'a> {
    /// Opens a file, and makes it or empties it where it says so.
    Open {
        /// Where it is.
        path: PathBuf,
        /// Whether it is made where it is missing.
        creates: bool,
        /// Whether it is emptied.
        truncates: bool,
    },
    /// Writes into a file.
    Write {
        /// The file.
        file: Opened,
        /// From which byte on.
        at: u64,
        /// What.
        bytes: &'a [u8],
    },
    /// Makes a file shorter or longer.
    Truncate {
        /// The file.
        file: Opened,
        /// Its new length.
        length: u64,
    },
    /// Brings a file or a folder to the disk.
    Sync {
        /// The file or folder.
        file: Opened,
    },
    /// Brings everything to the disk that this file is on.
    SyncAll {
        /// The file.
        file: Opened,
    },
    /// Gives a file or a folder another name.
    Rename {
        /// Its name.
        from: PathBuf,
        /// The new one.
        to: PathBuf,
    },
    /// Takes a name away.
    Unlink {
        /// The name.
        path: PathBuf,
    },
    /// Makes a folder.
    MakeFolder {
        /// Where.
        path: PathBuf,
    },
    /// Removes a folder.
    RemoveFolder {
        /// Which.
        path: PathBuf,
    },
}

/// Device and number of a file, while it is there.
pub type Identity = (u64, u64);

/// A file or a folder that is open.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    descriptor: c_int,
    /// Which file it is.
    pub identity: Identity,
    /// Its bytes.
    pub size: u64,
}

impl Opened {
    /// What a descriptor stands for; none where it is neither a file nor a folder.
    fn of(descriptor: c_int) -> Option<Self> {
        let mut status = std::mem::MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: the buffer is valid for a write of the kernel's structure.
        let done =
            unsafe { real(libc::SYS_fstat, [descriptor.into(), status.as_mut_ptr() as c_long, 0, 0, 0, 0]) };
        if done != 0 {
            return None;
        }
        // SAFETY: zeroes are a value of it, and the kernel wrote the rest.
        let status = unsafe { status.assume_init() };
        let is_known = matches!(status.st_mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR);
        let size = u64::try_from(status.st_size).unwrap_or_default();
        is_known.then_some(Self { descriptor, identity: (status.st_dev, status.st_ino), size })
    }

    /// The bytes that stand at a place, as far as the file reaches.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(&self, at: u64, length: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.size.saturating_sub(at).min(length)).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        let mut done = 0;
        while done < length {
            let left = &mut bytes[done..];
            let place = at + done as u64;
            let arguments = [
                c_long::from(self.descriptor),
                left.as_mut_ptr() as c_long,
                left.len().cast_signed() as c_long,
                place.cast_signed() as c_long,
                0,
                0,
            ];
            // SAFETY: the buffer is valid for writes of its length.
            match unsafe { real(libc::SYS_pread64, arguments) } {
                0 => break,
                read if read < 0 => return Err(io::Error::last_os_error()),
                read => done += usize::try_from(read).unwrap_or_default(),
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    /// Where the next write goes that names no place.
    fn position(&self) -> u64 {
        let ask = |number, a, b| {
            // SAFETY: these two calls take numbers only.
            unsafe { real(number, [self.descriptor.into(), a, b, 0, 0, 0]) }
        };
        if ask(libc::SYS_fcntl, libc::F_GETFL.into(), 0) & c_long::from(libc::O_APPEND) != 0 {
            return self.size;
        }
        u64::try_from(ask(libc::SYS_lseek, 0, libc::SEEK_CUR.into())).unwrap_or(self.size)
    }
}

/// What is to be done with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It concerns nobody here.
    Pass,
    /// It is done, and the watcher is told.
    Watch,
    /// It has been done already.
    Done,
    /// It fails with this number.
    Refuse(c_int),
}

/// Who is asked about calls that change files. What it does with files itself is not watched.
pub trait Watcher {
    /// Asked before the call.
    fn before(&self, call: &Call<'_>) -> Answer;
    /// Told after it, where it answered [`Answer::Watch`]: with the file of an `open` that succeeded.
    fn after(&self, call: &Call<'_>, is_done: bool, opened: Option<Opened>);
}

thread_local! {
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
    static WATCHER: RefCell<Option<Rc<dyn Watcher>>> = const { RefCell::new(None) };
}

/// Sets who watches this thread, until the guard is dropped.
pub fn watch(watcher: Rc<dyn Watcher>) -> Guard {
    WATCHER.with_borrow_mut(|it| *it = Some(watcher));
    IS_WATCHED.set(true);
    Guard(())
}

/// Ends the watch of its thread when it is dropped.
#[derive(Debug)]
pub struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        IS_WATCHED.set(false);
        WATCHER.with_borrow_mut(|it| *it = None);
    }
}

/// Does something with files that nobody is asked about.
pub fn unwatched<T>(body: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IS_WATCHED.set(self.0);
        }
    }
    let _restore = Restore(IS_WATCHED.replace(false));
    body()
}

fn is_watched() -> bool {
    IS_WATCHED.try_with(Cell::get).unwrap_or(false)
}

/// Asks the watcher, makes the call where it is to be made, and tells what came of it.
fn through(call: &Call<'_>, make: impl FnOnce() -> c_long) -> c_long {
    let Some(watcher) = WATCHER.with_borrow(Clone::clone) else { return make() };
    match unwatched(|| watcher.before(call)) {
        Answer::Pass => make(),
        Answer::Done => 0,
        Answer::Refuse(errno) => failed(errno),
        Answer::Watch => {
            let result = make();
            let errno = io::Error::last_os_error().raw_os_error();
            let opens = matches!(call, Call::Open { .. }) && result >= 0;
            let opened = c_int::try_from(result).ok().filter(|_| opens).and_then(Opened::of);
            unwatched(|| watcher.after(call, result >= 0, opened));
            if result >= 0 { result } else { failed(errno.unwrap_or(libc::EIO)) }
        }
    }
}

/// The whole path of a name in a folder that is open.
///
/// # Safety
/// `name` is a string that ends in a zero.
unsafe fn path(folder: c_int, name: *const c_char) -> PathBuf {
    // SAFETY: the caller's promise.
    let name = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()));
    if name.is_absolute() || folder == libc::AT_FDCWD {
        return name.to_owned();
    }
    let link = format!("/proc/self/fd/{folder}\0");
    let mut bytes = vec![0_u8; PATH_BYTES_MAX];
    let arguments = [
        c_long::from(libc::AT_FDCWD),
        link.as_ptr() as c_long,
        bytes.as_mut_ptr() as c_long,
        bytes.len().cast_signed() as c_long,
        0,
        0,
    ];
    // SAFETY: the link's name ends in a zero, and the buffer is valid for writes of its length.
    let length = unsafe { real(libc::SYS_readlinkat, arguments) };
    bytes.truncate(usize::try_from(length).unwrap_or_default());
    PathBuf::from(OsString::from_vec(bytes)).join(name)
}

/// Opens a file in a folder.
///
/// # Safety
/// `name` is a string that ends in a zero.
unsafe fn open_in(folder: c_int, name: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let make = |flags: c_int| {
        let arguments = [folder.into(), name as c_long, flags.into(), mode.into(), 0, 0];
        // SAFETY: the caller's promise is passed on to the kernel.
        unsafe { real(libc::SYS_openat, arguments) }
    };
    let changes = flags & (libc::O_CREAT | libc::O_TRUNC) != 0 || flags & libc::O_ACCMODE != libc::O_RDONLY;
    if !changes || flags & libc::O_TMPFILE == libc::O_TMPFILE || !is_watched() {
        return make(flags) as c_int;
    }
    // SAFETY: the caller's promise.
    let path = unsafe { path(folder, name) };
    let (creates, truncates) = (flags & libc::O_CREAT != 0, flags & libc::O_TRUNC != 0);
    let call = Call::Open { path, creates, truncates };
    through(&call, || {
        // What stood in a place before it is written is read.
        let writes_only = flags & libc::O_ACCMODE == libc::O_WRONLY;
        make(if writes_only { flags & !libc::O_ACCMODE | libc::O_RDWR } else { flags })
    }) as c_int
}

/// Writes to a file; at its own position where none is named.
///
/// # Safety
/// `bytes` is valid for reads of `length` bytes.
unsafe fn write_to(descriptor: c_int, bytes: *const c_void, length: usize, at: Option<i64>) -> isize {
    let length_word = length.cast_signed() as c_long;
    let make = || match at {
        // SAFETY: the caller's promise is passed on to the kernel.
        None => unsafe { real(libc::SYS_write, [descriptor.into(), bytes as c_long, length_word, 0, 0, 0]) },
        // SAFETY: the caller's promise is passed on to the kernel.
        Some(at) => unsafe {
            real(libc::SYS_pwrite64, [descriptor.into(), bytes as c_long, length_word, at as c_long, 0, 0])
        },
    };
    let opened = if is_watched() && length > 0 { Opened::of(descriptor) } else { None };
    let Some(file) = opened else { return make() as isize };
    // SAFETY: the caller's promise, for as long as the call lasts.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) };
    let at = at.map_or_else(|| file.position(), |at| u64::try_from(at).unwrap_or_default());
    through(&Call::Write { file, at, bytes }, make) as isize
}

fn on_opened(
    descriptor: c_int,
    call: impl FnOnce(Opened) -> Call<'static>,
    make: impl FnOnce() -> c_long,
) -> c_int {
    let opened = if is_watched() { Opened::of(descriptor) } else { None };
    let Some(file) = opened else { return make() as c_int };
    through(&call(file), make) as c_int
}

/// Stands in place of libc's `open`. It takes a variable number of arguments; the third is looked at by the kernel only where
/// it was given.
///
/// # Safety
/// As libc's: `name` is a string that ends in a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn open(name: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the caller's promise is passed on.
    unsafe { open_in(libc::AT_FDCWD, name, flags, mode) }
}

/// Stands in place of libc's `open64`.
///
/// # Safety
/// As libc's: `name` is a string that ends in a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(name: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the caller's promise is passed on.
    unsafe { open_in(libc::AT_FDCWD, name, flags, mode) }
}

/// Stands in place of libc's `openat`.
///
/// # Safety
/// As libc's: `name` is a string that ends in a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn openat(folder: c_int, name: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the caller's promise is passed on.
    unsafe { open_in(folder, name, flags, mode) }
}

/// Stands in place of libc's `openat64`.
///
/// # Safety
/// As libc's: `name` is a string that ends in a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn openat64(folder: c_int, name: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the caller's promise is passed on.
    unsafe { open_in(folder, name, flags, mode) }
}

/// Stands in place of libc's `write`.
///
/// # Safety
/// As libc's: `bytes` is valid for reads of `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(descriptor: c_int, bytes: *const c_void, length: usize) -> isize {
    // SAFETY: the caller's promise is passed on.
    unsafe { write_to(descriptor, bytes, length, None) }
}

/// Stands in place of libc's `pwrite`.
///
/// # Safety
/// As libc's: `bytes` is valid for reads of `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(descriptor: c_int, bytes: *const c_void, length: usize, at: i64) -> isize {
    // SAFETY: the caller's promise is passed on.
    unsafe { write_to(descriptor, bytes, length, Some(at)) }
}

/// Stands in place of libc's `pwrite64`.
///
/// # Safety
/// As libc's: `bytes` is valid for reads of `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(descriptor: c_int, bytes: *const c_void, length: usize, at: i64) -> isize {
    // SAFETY: the caller's promise is passed on.
    unsafe { write_to(descriptor, bytes, length, Some(at)) }
}

/// Stands in place of libc's `fsync`.
#[unsafe(no_mangle)]
extern "C" fn fsync(descriptor: c_int) -> c_int {
    // SAFETY: this call takes a number only.
    let make = || unsafe { real(libc::SYS_fsync, [descriptor.into(), 0, 0, 0, 0, 0]) };
    on_opened(descriptor, |file| Call::Sync { file }, make)
}

/// Stands in place of libc's `fdatasync`.
#[unsafe(no_mangle)]
extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    // SAFETY: this call takes a number only.
    let make = || unsafe { real(libc::SYS_fdatasync, [descriptor.into(), 0, 0, 0, 0, 0]) };
    on_opened(descriptor, |file| Call::Sync { file }, make)
}

/// Stands in place of libc's `syncfs`.
#[unsafe(no_mangle)]
extern "C" fn syncfs(descriptor: c_int) -> c_int {
    // SAFETY: this call takes a number only.
    let make = || unsafe { real(libc::SYS_syncfs, [descriptor.into(), 0, 0, 0, 0, 0]) };
    on_opened(descriptor, |file| Call::SyncAll { file }, make)
}

/// Stands in place of libc's `ftruncate`.
#[unsafe(no_mangle)]
extern "C" fn ftruncate(descriptor: c_int, length: i64) -> c_int {
    // SAFETY: this call takes numbers only.
    let make = || unsafe { real(libc::SYS_ftruncate, [descriptor.into(), length as c_long, 0, 0, 0, 0]) };
    let whole = u64::try_from(length).unwrap_or_default();
    on_opened(descriptor, |file| Call::Truncate { file, length: whole }, make)
}

/// Stands in place of libc's `ftruncate64`.
#[unsafe(no_mangle)]
extern "C" fn ftruncate64(descriptor: c_int, length: i64) -> c_int {
    ftruncate(descriptor, length)
}

/// Stands in place of libc's `rename`.
///
/// # Safety
/// As libc's: both names are strings that end in a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's promise is passed on.
    unsafe { renameat2(libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) }
}

/// Stands in place of libc's `renameat`.
///
/// # Safety
/// As libc's: both names are strings that end in a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn renameat(
    from_folder: c_int,
    from: *const c_char,
    to_folder: c_int,
    to: *const c_char,
) -> c_int {
    // SAFETY: the caller's promise is passed on.
    unsafe { renameat2(from_folder, from, to_folder, to, 0) }
}

/// Stands in place of libc's `renameat2`.
///
/// # Safety
/// As libc's: both names are strings that end in a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn renameat2(
    from_folder: c_int,
    from: *const c_char,
    to_folder: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    let make = || {
        let arguments = [from_folder.into(), from as c_long, to_folder.into(), to as c_long, flags.into(), 0];
        // SAFETY: the caller's promise is passed on to the kernel.
        unsafe { real(libc::SYS_renameat2, arguments) }
    };
    if !is_watched() {
        return make() as c_int;
    }
    // SAFETY: the caller's promise.
    let (from, to) = unsafe { (path(from_folder, from), path(to_folder, to)) };
    through(&Call::Rename { from, to }, make) as c_int
}

/// Stands in place of libc's `unlink`.
///
/// # Safety
/// As libc's: `name` is a string that ends in a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(name: *const c_char) -> c_int {
    // SAFETY: the caller's promise is passed on.
    unsafe { unlinkat(libc::AT_FDCWD, name, 0) }
}

/// Stands in place of libc's `rmdir`.
///
/// # Safety
/// As libc's: `name` is a string that ends in a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn rmdir(name: *const c_char) -> c_int {
    // SAFETY: the caller's promise is passed on.
    unsafe { unlinkat(libc::AT_FDCWD, name, libc::AT_REMOVEDIR) }
}

/// Stands in place of libc's `unlinkat`.
///
/// # Safety
/// As libc's: `name` is a string that ends in a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn unlinkat(folder: c_int, name: *const c_char, flags: c_int) -> c_int {
    let make = || {
        // SAFETY: the caller's promise is passed on to the kernel.
        unsafe { real(libc::SYS_unlinkat, [folder.into(), name as c_long, flags.into(), 0, 0, 0]) }
    };
    if !is_watched() {
        return make() as c_int;
    }
    // SAFETY: the caller's promise.
    let path = unsafe { path(folder, name) };
    let is_folder = flags & libc::AT_REMOVEDIR != 0;
    let call = if is_folder { Call::RemoveFolder { path } } else { Call::Unlink { path } };
    through(&call, make) as c_int
}

/// Stands in place of libc's `mkdir`.
///
/// # Safety
/// As libc's: `name` is a string that ends in a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(name: *const c_char, mode: libc::mode_t) -> c_int {
    // SAFETY: the caller's promise is passed on.
    unsafe { mkdirat(libc::AT_FDCWD, name, mode) }
}

/// Stands in place of libc's `mkdirat`.
///
/// # Safety
/// As libc's: `name` is a string that ends in a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn mkdirat(folder: c_int, name: *const c_char, mode: libc::mode_t) -> c_int {
    let make = || {
        // SAFETY: the caller's promise is passed on to the kernel.
        unsafe { real(libc::SYS_mkdirat, [folder.into(), name as c_long, mode.into(), 0, 0, 0]) }
    };
    if !is_watched() {
        return make() as c_int;
    }
    // SAFETY: the caller's promise.
    let path = unsafe { path(folder, name) };
    through(&Call::MakeFolder { path }, make) as c_int
}
