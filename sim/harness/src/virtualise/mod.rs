//! Clocks, entropy and disks of libc: virtual on a thread that runs a simulation, the real ones on every other.
//!
//! `std::time`, `rand`, the order of a `HashMap` and the Noise handshake all end in the functions that stand here in place
//! of libc's, so that whatever runs on such a thread becomes a function of the seed. The symbols are those of the whole
//! program that this crate is linked into: never link it into one that is shipped. SQLite's own entropy is read from
//! `/dev/urandom` and stays real; no statement of the node asks for it, and a test holds that.
//!
//! Which machine's wall clock is wrong by how much is in `clocks`. Calls that change files are in `files`: a simulated disk is asked about those that concern it, and all others go on to the
//! kernel.
//!
//! Linux only. This is the one folder of the workspace that holds unsafe code.

#![expect(unsafe_code, reason = "functions of libc are replaced by ours")]
#![cfg(target_os = "linux")]

pub mod clocks;
pub mod files;

use std::{
    cell::{Cell, RefCell},
    ffi::{c_int, c_long, c_uint, c_void},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::fabric;

/// Wall-clock time at which every simulation starts, since 1970: 14 November 2023.
pub const EPOCH: Duration = Duration::from_secs(1_700_000_000);
/// What a monotonic clock says where no runtime is entered: above zero, so that programs may subtract from it.
const BOOT: Duration = Duration::from_secs(1_000_000);

thread_local! {
    static ENTROPY: RefCell<Option<ChaCha8Rng>> = const { RefCell::new(None) };
    /// The instant that [`BOOT`] is; set while this thread runs a simulation.
    static BOOTED: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Set while the virtual time is being read, which must not read itself.
    static READING: Cell<bool> = const { Cell::new(false) };
    static ELAPSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// Says how long the run has lasted, where somebody can say so.
    static SOURCE: Cell<fn() -> Option<Duration>> = const { Cell::new(fabric::elapsed) };
}

/// Makes the clocks and the entropy of this thread virtual until the guard is dropped.
///
/// The generators and hash keys that a thread makes for itself are seeded once, so that a run needs a thread that has not
/// drawn anything yet.
pub fn enter(entropy: [u8; 32]) -> Guard {
    enter_with(entropy, fabric::elapsed)
}

/// The same, on an engine of which `elapsed` says how long the run has lasted; none outside of it.
pub fn enter_with(entropy: [u8; 32], elapsed: fn() -> Option<Duration>) -> Guard {
    SOURCE.set(elapsed);
    ENTROPY.with_borrow_mut(|generator| *generator = Some(ChaCha8Rng::from_seed(entropy)));
    ELAPSED.set(Duration::ZERO);
    clocks::reset();
    READING.set(true);
    #[expect(clippy::disallowed_methods, reason = "reads the virtual clock, which stands at its beginning")]
    BOOTED.set(Some(Instant::now()));
    READING.set(false);
    Guard(())
}

/// Ends the simulation of this thread when it is dropped.
#[derive(Debug)]
pub struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        ENTROPY.with_borrow_mut(|generator| *generator = None);
        BOOTED.set(None);
    }
}

/// Whether the functions of this file are in effect: a linker that leaves them out would make every run different.
///
/// To be asked on a thread between [`enter`] and the drop of its guard.
pub fn is_in_effect() -> bool {
    #[expect(clippy::disallowed_methods, reason = "asks whether the wall clock is virtual")]
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    let drawn = |seed| {
        ENTROPY.with_borrow_mut(|generator| generator.as_mut().map(|it| *it = ChaCha8Rng::from_seed(seed)));
        let mut bytes = [0; 16];
        // SAFETY: the buffer is valid for its length.
        let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        (filled, bytes)
    };
    let kept = ENTROPY.with_borrow(Clone::clone);
    let is_drawn = drawn([1; 32]) == drawn([1; 32]);
    ENTROPY.with_borrow_mut(|generator| *generator = kept);
    is_drawn && wall.is_ok_and(|wall| wall == EPOCH)
}

/// Fills a buffer from the generator of this thread; false where it runs no simulation.
fn draw(bytes: &mut [u8]) -> bool {
    let fill = |generator: &RefCell<Option<ChaCha8Rng>>| {
        let Ok(mut generator) = generator.try_borrow_mut() else { return false };
        generator.as_mut().map(|generator| generator.fill_bytes(bytes)).is_some()
    };
    // Where the thread is ending its locals are gone, and its simulation has ended.
    ENTROPY.try_with(fill).unwrap_or(false)
}

/// What a clock says on this thread; none where it runs no simulation.
fn time(clock: libc::clockid_t) -> Option<Duration> {
    if READING.try_with(|reading| reading.replace(true)).ok()? {
        return Some(BOOT);
    }
    let now = BOOTED.try_with(Cell::get).ok().flatten().map(|booted| match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_TAI => {
            clocks::read(EPOCH + elapsed())
        }
        _ => BOOT + uptime(booted),
    });
    READING.set(false);
    now
}

/// How long the simulation has been running; what it was last where nobody can say now.
fn elapsed() -> Duration {
    let elapsed = SOURCE.get()().unwrap_or_else(|| ELAPSED.get()).max(ELAPSED.get());
    ELAPSED.set(elapsed);
    elapsed
}

/// How long the runtime that is entered has been running. The paused clock of a runtime is read only where one is entered,
/// and one that is being made takes the beginning.
fn uptime(booted: Instant) -> Duration {
    match tokio::runtime::Handle::try_current() {
        Ok(_) => tokio::time::Instant::now().into_std().saturating_duration_since(booted),
        Err(_) => Duration::ZERO,
    }
}

/// Stands in place of libc's `clock_gettime`.
///
/// # Safety
/// As libc's: `out` is valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, out: *mut libc::timespec) -> c_int {
    let Some(now) = time(clock) else {
        // SAFETY: the caller's promise for `out` is passed on to the kernel.
        return unsafe { real(libc::SYS_clock_gettime, [clock.into(), out as c_long, 0, 0, 0, 0]) as c_int };
    };
    let now = libc::timespec { tv_sec: now.as_secs().cast_signed(), tv_nsec: now.subsec_nanos().into() };
    // SAFETY: the caller promises that `out` is valid for a write.
    unsafe { out.write(now) };
    0
}

/// Stands in place of libc's `gettimeofday`, which SQLite reads.
///
/// # Safety
/// As libc's: `out` is valid for a write; `zone` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn gettimeofday(out: *mut libc::timeval, zone: *mut c_void) -> c_int {
    let Some(now) = time(libc::CLOCK_REALTIME) else {
        // SAFETY: the caller's promises are passed on to the kernel.
        return unsafe { real(libc::SYS_gettimeofday, [out as c_long, zone as c_long, 0, 0, 0, 0]) as c_int };
    };
    let now = libc::timeval { tv_sec: now.as_secs().cast_signed(), tv_usec: now.subsec_micros().into() };
    // SAFETY: the caller promises that `out` is valid for a write.
    unsafe { out.write(now) };
    0
}

/// Stands in place of libc's `getrandom`.
///
/// # Safety
/// As libc's: `buffer` is valid for writes of `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    // SAFETY: the caller's promise is passed on.
    unsafe { fill(buffer, length, flags.into()) as isize }
}

/// Stands in place of libc's `getentropy`.
///
/// # Safety
/// As libc's: `buffer` is valid for writes of `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getentropy(buffer: *mut c_void, length: usize) -> c_int {
    /// What POSIX allows to be asked for at once.
    const BYTES_MAX: usize = 256;
    if length > BYTES_MAX {
        return failed(libc::EIO) as c_int;
    }
    // SAFETY: the caller's promise is passed on. Up to 256 bytes are never cut short.
    if unsafe { fill(buffer, length, 0) } < 0 { -1 } else { 0 }
}

/// Stands in place of libc's `syscall`. It takes a variable number of arguments; where fewer than six are given, the rest is
/// whatever the registers hold, which the kernel does not look at, as with libc's own.
///
/// # Safety
/// As libc's, for the call that is asked for.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    if number == libc::SYS_getrandom {
        // SAFETY: the caller's promise is that of `getrandom`, whose arguments these are.
        return unsafe { fill(a as *mut c_void, b as usize, c) };
    }
    // SAFETY: the caller's promise is passed on.
    unsafe { real(number, [a, b, c, d, e, f]) }
}

/// Fills a buffer with virtual entropy on a simulating thread, and with the kernel's elsewhere.
///
/// # Safety
/// `buffer` is valid for writes of `length` bytes.
unsafe fn fill(buffer: *mut c_void, length: usize, flags: c_long) -> c_long {
    if !buffer.is_null() {
        // SAFETY: the caller promises that the bytes are valid for writes, and nothing else refers to them during the call.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
        if draw(bytes) {
            return length.cast_signed() as c_long;
        }
    }
    // SAFETY: the caller's promise is passed on to the kernel.
    unsafe { real(libc::SYS_getrandom, [buffer as c_long, length.cast_signed() as c_long, flags, 0, 0, 0]) }
}

/// Makes a system call, with libc's convention for errors.
///
/// # Safety
/// The arguments are what the call asks for.
unsafe fn real(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    let result: c_long;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel's convention of this processor: it changes rcx and r11 besides the result, and what the caller
    // promised that it may write.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel's convention of this processor: it changes the result, and what the caller promised.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    /// The kernel returns errors as the last numbers below zero.
    const ERRNO_MAX: c_long = 4095;
    if (-ERRNO_MAX..0).contains(&result) { failed((-result) as c_int) } else { result }
}

/// Reports an error as libc does.
fn failed(errno: c_int) -> c_long {
    // SAFETY: libc's pointer to this thread's `errno` is always valid.
    unsafe { *libc::__errno_location() = errno };
    -1
}

#[cfg(test)]
mod tests {
    use std::{collections::hash_map::RandomState, hash::BuildHasher, thread};

    use super::*;

    /// Draws in every way that the stack uses, on a fresh thread.
    #[expect(clippy::disallowed_methods, reason = "the entropy itself is tested")]
    fn drawn(seed: Option<[u8; 32]>) -> (u64, u64, [u8; 8], [u8; 8]) {
        thread::spawn(move || {
            let _guard = seed.map(enter);
            let hash = RandomState::new().hash_one(1);
            let (mut direct, mut entropy) = ([0u8; 8], [0u8; 8]);
            // SAFETY: the buffers are valid for their lengths.
            unsafe {
                assert_eq!(libc::syscall(libc::SYS_getrandom, direct.as_mut_ptr(), direct.len(), 0), 8);
                assert_eq!(libc::getentropy(entropy.as_mut_ptr().cast(), entropy.len()), 0);
            }
            (hash, rand::random(), direct, entropy)
        })
        .join()
        .unwrap()
    }

    #[test]
    fn entropy_is_a_function_of_the_seed_inside_a_simulation() {
        let (one, two) = (drawn(Some([1; 32])), drawn(Some([2; 32])));
        assert_eq!(one, drawn(Some([1; 32])));
        assert!(one.0 != two.0 && one.1 != two.1 && one.2 != two.2 && one.3 != two.3);
    }

    #[test]
    fn entropy_is_real_outside_a_simulation() {
        let (one, two) = (drawn(None), drawn(None));
        assert!(one.0 != two.0 && one.1 != two.1 && one.2 != two.2 && one.3 != two.3);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the clocks themselves are tested")]
    fn clocks_stand_still_inside_a_simulation_and_go_on_outside() {
        let wall = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let real = wall();
        assert!(real > EPOCH + Duration::from_secs(365 * 24 * 3600), "the wall clock is right: {real:?}");
        thread::spawn(move || {
            let guard = enter([1; 32]);
            let began = Instant::now();
            assert_eq!(wall(), EPOCH);
            thread::sleep(Duration::from_millis(5));
            assert_eq!((wall(), Instant::now()), (EPOCH, began));
            // Another thread is not concerned.
            thread::spawn(move || assert!(wall() >= real)).join().unwrap();
            drop(guard);
            assert!(wall() >= real);
            assert_ne!(Instant::now(), began);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn the_replacements_are_linked() {
        thread::spawn(|| {
            let _guard = enter([1; 32]);
            assert!(is_in_effect());
        })
        .join()
        .unwrap();
        thread::spawn(|| assert!(!is_in_effect())).join().unwrap();
    }

    #[test]
    fn a_paused_runtime_moves_the_monotonic_clock() {
        thread::spawn(|| {
            let _guard = enter([1; 32]);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                #[expect(clippy::disallowed_methods, reason = "the clock itself is tested")]
                let began = Instant::now();
                tokio::time::sleep(Duration::from_secs(7)).await;
                assert_eq!(began.elapsed(), Duration::from_secs(7));
            });
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_failed_call_sets_errno() {
        // SAFETY: closing a descriptor that was never open does nothing.
        assert_eq!(unsafe { libc::syscall(libc::SYS_close, -1) }, -1);
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EBADF));
    }
}
