//! Media first: a shard that has something to forward does not wait until a thread of something else has used up its time.
//!
//! A scheduler gives each thread that wants to run some milliseconds at a time, which is longer than a packet should be here. On a
//! machine that was half idle a shard waited for a core for a tenth of its time, and that made most of what one packet in a hundred
//! was late (docs/bench/README.md).

use std::io;

use rustix::process::setpriority_process;

/// The nice value of a shard: below what else runs, so that it takes over a core at once; not so far that it starves it, for what
/// else runs here is the signalling of the same calls.
const NICE: i32 = -10;

/// The calling thread, and no other of this process, takes precedence from now on.
///
/// # Errors
/// Not permitted (`CAP_SYS_NICE`, or a limit `RLIMIT_NICE` of 30): it goes on as it was.
pub(super) fn raise() -> io::Result<()> {
    // On Linux "process 0" is the calling thread (setpriority(2), "C library/kernel differences").
    Ok(setpriority_process(None, NICE)?)
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn one_thread_takes_precedence_or_all_goes_on() {
        let of_others = || getpriority_process(None).expect("the priority of this thread");
        let before = of_others();
        let raised = std::thread::spawn(|| (raise().is_ok(), getpriority_process(None).expect("of that thread")));
        let (is_permitted, after) = raised.join().expect("it ends");
        assert_eq!(after, if is_permitted { NICE } else { before });
        assert_eq!(of_others(), before);
    }
}
