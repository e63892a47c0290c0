//! Whether something panicked on this thread. A runtime catches what panics in a task and goes on without it: a run in which
//! that happens must not pass for one in which a step failed.

use std::{cell::Cell, panic, sync::Once};

thread_local! {
    static HAPPENED: Cell<bool> = const { Cell::new(false) };
}

/// Notes every panic from now on, on whichever thread it is, after it was told as before.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            told(info);
            // A thread that is at its end has nobody left to ask.
            let _ = HAPPENED.try_with(|happened| happened.set(true));
        }));
    });
}

/// Whether something panicked on this thread since somebody watches.
pub fn happened() -> bool {
    HAPPENED.get()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_panic_that_a_runtime_catches_is_noted_on_its_thread_alone() {
        watch();
        thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            assert!(!happened());
            assert!(runtime.block_on(async { tokio::spawn(async { panic!("on purpose") }).await }).is_err());
            assert!(happened());
        })
        .join()
        .unwrap();
        assert!(!happened());
    }
}
