//! Listening to init: its steps go to the observer, its failure becomes an error in words, and what is
//! left is news.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::error::Error;
use crate::plan::Plan;
use crate::plan::step::Actor;
use crate::run::Observer;

use super::report::Report;

/// What init has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It waits for the runtime's hooks.
    AwaitsHooks,
    /// It waits until its descriptor of this number, a filter's listener, has been passed on.
    Listener(i32),
    /// It waits until its descriptor of this number, a tree for that mount of the plan, has its owners.
    Tree(i32, u16),
    /// Another child, with this number, has taken its place.
    Born(i32),
    /// Nothing is left but to start the command, or it runs already.
    Ready,
    /// The command has ended, with this wait status (`man 2 wait`).
    Ended(i32),
    /// Init has closed its end: it is the command now, or has ended.
    Closed,
}

/// Hears the next news of the init that takes its steps of `plan`.
///
/// # Errors
/// Init's failure.
pub fn hear(channel: impl AsFd, plan: &Plan, observer: &mut dyn Observer) -> Result<News, Error> {
    let step_at = |index: u16| plan.steps_of(Actor::Init).nth(index.into());
    let mut reason = None;
    loop {
        let report = Report::receive(&channel).map_err(|errno| Error::System {
            call: "read",
            errno,
        })?;
        return match report {
            None => Ok(News::Closed),
            Some(Report::AwaitsHooks) => Ok(News::AwaitsHooks),
            Some(Report::Listener { descriptor }) => Ok(News::Listener(descriptor)),
            Some(Report::Tree { descriptor, mount }) => Ok(News::Tree(descriptor, mount)),
            Some(Report::Born { pid }) => Ok(News::Born(pid)),
            Some(Report::Started) => Ok(News::Ready),
            Some(Report::Ended { wait_status }) => Ok(News::Ended(wait_status)),
            Some(Report::Step {
                step,
                outcome,
                nanoseconds,
            }) => {
                if let Some(step) = step_at(step) {
                    observer.step(step, outcome, Duration::from_nanos(nanoseconds));
                }
                continue;
            }
            Some(Report::Said { text }) => {
                reason = Some(text);
                continue;
            }
            Some(Report::Failed { .. }) if reason.is_some() => {
                Err(Error::Said(reason.unwrap_or_default()))
            }
            Some(Report::Failed { step, call, errno }) => Err(match step_at(step) {
                Some(step) => Error::step(step, call, errno),
                None => Error::System {
                    call: "clone",
                    errno,
                },
            }),
            Some(Report::NotExecuted {
                candidate,
                errno,
                diagnosis,
            }) => Err(Error::not_executed(
                plan,
                usize::from(candidate),
                errno,
                &diagnosis,
            )),
        };
    }
}
