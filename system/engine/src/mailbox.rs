//! Messages that go down: from the session to a torrent, from a torrent to a peer.
//!
//! Messages that go up travel over bounded channels and may make their sender wait. If those that go down could wait too, two
//! owners could wait for each other for ever. So they never wait, and stay bounded because of what they are: each answers something
//! that the receiver asked for, or replaces an earlier one.
//!
//! Invariant: pushing never waits and never fails; the lock is held for one push or one swap, never across an await.

use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// One receiver's mail. Clones share it.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    inner: Arc<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    mail: Mutex<Mail<T>>,
}

/// What waits, and who waits for it.
#[derive(Debug)]
struct Mail<T> {
    waiting: Vec<T>,
    receiver: Option<Waker>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Mailbox {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T> Mailbox<T> {
    pub(crate) fn new() -> Self {
        Mailbox {
            inner: Arc::new(Inner {
                mail: Mutex::new(Mail {
                    waiting: Vec::new(),
                    receiver: None,
                }),
            }),
        }
    }

    /// Adds `message`. `absorb` may merge it into the last message that waits, and returns it where it cannot.
    pub(crate) fn push(&self, message: T, absorb: impl FnOnce(&mut T, T) -> Option<T>) {
        let mut mail = self
            .inner
            .mail
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let rest = match mail.waiting.last_mut() {
            Some(last) => absorb(last, message),
            None => Some(message),
        };
        mail.waiting.extend(rest);
        let receiver = mail.receiver.take();
        drop(mail);
        receiver.into_iter().for_each(Waker::wake);
    }

    /// Waits until there is mail and moves it to the end of `into`. May be cancelled without losing any. One waits at a time.
    pub(crate) async fn collect(&self, into: &mut Vec<T>) {
        poll_fn(|context| self.poll(context, into)).await;
    }

    fn poll(&self, context: &Context<'_>, into: &mut Vec<T>) -> Poll<()> {
        let mut mail = self
            .inner
            .mail
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let taken = mem::take(&mut mail.waiting);
        if taken.is_empty() {
            mail.receiver = Some(context.waker().clone());
            return Poll::Pending;
        }
        drop(mail);
        into.extend(taken);
        Poll::Ready(())
    }
}

/// For messages that do not merge.
pub(crate) fn separate<T>(_last: &mut T, message: T) -> Option<T> {
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn mail_keeps_its_order_and_wakes_the_receiver() {
        let mailbox = Mailbox::new();
        let sender = mailbox.clone();
        let task = tokio::spawn(async move {
            let mut got = Vec::new();
            while got.len() < 3 {
                mailbox.collect(&mut got).await;
            }
            got
        });
        for number in 0..3 {
            sender.push(number, separate);
            tokio::task::yield_now().await;
        }
        assert_eq!(task.await.unwrap(), [0, 1, 2]);
    }

    #[tokio::test]
    async fn a_message_may_be_absorbed_by_the_one_that_waits() {
        let mailbox = Mailbox::new();
        for number in 1..=4 {
            mailbox.push(number, |last, new| {
                *last += new;
                None
            });
        }
        let mut got = Vec::new();
        mailbox.collect(&mut got).await;
        assert_eq!(got, [10]);
    }
}
