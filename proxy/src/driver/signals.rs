//! What may come to a session besides bytes: a cancel request, the drain, a deadline.
//!
//! They are registered once and stay so: to register and withdraw them for every message would cost as much as judging it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, Sleep};

use crate::cancel::CancelHandle;
use crate::shutdown::Drain;

/// A deadline nobody lives to see.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// A cancel request with this session's key.
    Cancel,
    /// The process drains: idle sessions end.
    Drain,
    /// The time given to running statements is over.
    DrainOver,
    /// The alarm.
    Alarm,
}

/// The signals of one session.
pub(super) struct Signals {
    cancel: CancelHandle,
    bell: Pin<Box<OwnedNotified>>,
    drain: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    drain_over: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    timer: Pin<Box<Sleep>>,
}

impl Signals {
    pub(super) fn new(cancel: CancelHandle, drain: &Drain) -> Self {
        let (mut begins, mut ends) = (drain.clone(), drain.clone());
        Self {
            bell: Box::pin(cancel.bell()),
            cancel,
            drain: Some(Box::pin(async move {
                begins.begun().await;
            })),
            drain_over: Some(Box::pin(async move { ends.expired().await })),
            timer: Box::pin(tokio::time::sleep(NEVER)),
        }
    }

    /// The next one; `Drain` and `DrainOver` come once. Cancel-safe.
    pub(super) async fn next(&mut self, alarm: Option<Instant>) -> Signal {
        poll_fn(|cx| self.poll(alarm, cx)).await
    }

    fn poll(&mut self, alarm: Option<Instant>, cx: &mut Context<'_>) -> Poll<Signal> {
        if self.bell.as_mut().poll(cx).is_ready() {
            self.bell.set(self.cancel.bell());
            return Poll::Ready(Signal::Cancel);
        }
        for (future, signal) in [(&mut self.drain, Signal::Drain), (&mut self.drain_over, Signal::DrainOver)] {
            if future.as_mut().is_some_and(|future| future.as_mut().poll(cx).is_ready()) {
                *future = None;
                return Poll::Ready(signal);
            }
        }
        let Some(alarm) = alarm else { return Poll::Pending };
        loop {
            // An alarm that moved away is set anew when the timer rings for the old one.
            if self.timer.deadline() > alarm {
                self.timer.as_mut().reset(alarm);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if alarm <= Instant::now() {
                self.timer.as_mut().reset(Instant::now() + NEVER);
                return Poll::Ready(Signal::Alarm);
            }
            self.timer.as_mut().reset(alarm);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::CancelRegistry;
    use crate::shutdown;

    #[tokio::test]
    async fn each_signal_comes_and_an_alarm_that_moves_rings_when_it_is_due() {
        let registry = CancelRegistry::default();
        let handle = registry.register(4, 77);
        let (process, secret) = (handle.process_id(), handle.secret().to_vec());
        let (stop, drain) = shutdown::channel();
        let mut signals = Signals::new(handle, &drain);
        let in_ms = |ms| Instant::now() + Duration::from_millis(ms);
        // The timer is set for a nearer alarm; then it moves away.
        let _ = tokio::time::timeout(Duration::from_millis(1), signals.next(Some(in_ms(20)))).await;
        let later = in_ms(60);
        assert_eq!(signals.next(Some(later)).await, Signal::Alarm);
        assert!(Instant::now() >= later);
        for _ in 0..2 {
            registry.cancel(process, &secret);
            assert_eq!(signals.next(Some(in_ms(60_000))).await, Signal::Cancel);
        }
        let before = Instant::now();
        stop.begin(Duration::from_millis(50));
        assert_eq!(signals.next(None).await, Signal::Drain);
        assert_eq!(signals.next(None).await, Signal::DrainOver);
        assert!(before.elapsed() >= Duration::from_millis(50));
    }
}
