//! Calls at work in the store's folder: the store is let go only once they have ended.
//!
//! What can take long asks again and again whether the store is being closed, and ends with `Closed` if
//! so. Whoever only commits needs none of this: closing takes the leader's lock.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};

/// Whether the store is open, and how many calls are at work in it.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    closed: AtomicBool,
    running: AtomicUsize,
    /// Held by the one who closes.
    closing: Mutex<()>,
    last: Mutex<()>,
    ended: Condvar,
}

/// A call at work, until dropped.
#[derive(Debug)]
pub(crate) struct Call<'a>(&'a Calls);

impl Calls {
    /// Begins a call, which keeps the store from being let go.
    ///
    /// # Errors
    /// `Closed`.
    #[inline]
    pub(crate) fn enter(&self) -> Result<Call<'_>> {
        // Either the one who closes sees the call, or the call sees that it is too late.
        let call = self.enter_late();
        self.check()?;
        Ok(call)
    }

    /// Begins a call even while the store is being closed; the caller finds out whether it is too late.
    #[inline]
    pub(crate) fn enter_late(&self) -> Call<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        Call(self)
    }

    /// Whether a call may begin, or go on.
    ///
    /// # Errors
    /// `Closed`.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        match self.is_closed() {
            true => Err(Error::Closed),
            false => Ok(()),
        }
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Calls `close` while nobody else does.
    pub(crate) fn while_closing<T>(&self, close: impl FnOnce() -> T) -> T {
        let _closing = self.closing.lock();
        close()
    }

    /// No call begins from now on, and those at work are asked to end. Returns whether that was so before.
    pub(crate) fn refuse(&self) -> bool {
        self.closed.swap(true, Ordering::SeqCst)
    }

    /// Waits until the last call has ended.
    pub(crate) fn wait(&self) {
        let mut last = self.last.lock();
        while self.running.load(Ordering::SeqCst) > 0 {
            self.ended.wait(&mut last);
        }
    }
}

impl Drop for Call<'_> {
    #[inline]
    fn drop(&mut self) {
        let calls = self.0;
        if calls.running.fetch_sub(1, Ordering::SeqCst) == 1 && calls.is_closed() {
            // Whoever has looked and not yet begun to wait holds this lock.
            drop(calls.last.lock());
            calls.ended.notify_all();
        }
    }
}
