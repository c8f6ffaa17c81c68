//! Congestion control for connections whose load is live media.
//!
//! Live media comes at the rate its encoders chose, and what they choose is steered above this, by layers. So most of
//! the time the window must only stay out of the way. The usual controllers do not: Cubic and its kin take each lost
//! packet for congestion and hold back most of the media of a long path at 1 % loss; BBR measures the path by what it
//! is given to send, and media that begins with a burst or pauses can leave it with too low an estimate for seconds
//! (seen here: half of 9 Mbit/s held back at 250 ms and 2 % loss in some runs, nothing in others).
//!
//! And when a bottleneck is full the window must neither fill its queue nor take it from others or leave it to them. What
//! it goes by is in [`window`]; what came of it in `scenarios`, on a virtual clock, at 20 Mbit/s:
//!
//! | against                                  | 20 to 250 ms round trip, queues of 10 to 800 ms                          |
//! |------------------------------------------|--------------------------------------------------------------------------|
//! | random loss of 0 to 10 %                 | nothing of 9 Mbit/s of media held back                                    |
//! | a bottleneck of its own                  | 80 % of it used or more, half of the time a queue under 50 ms             |
//! | another of its kind                      | each takes a third of the other's share at least, the same queue          |
//! | Cubic, by 4 Mbit/s of media              | at most a twentieth of it held back, at queues of up to 200 ms            |
//! | Cubic that always has something to send  | a third to three times its share; at a queue of 800 ms a tenth at least     |

mod window;

#[cfg(test)]
mod scenarios;

use std::{any::Any, sync::Arc, time::Instant};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

use window::{INITIAL_BYTES, Window};

/// Makes a controller for each connection.
pub(crate) struct LiveMedia;

impl ControllerFactory for LiveMedia {
    fn build(self: Arc<Self>, _now: Instant, _mtu_bytes: u16) -> Box<dyn Controller> {
        Box::new(Window::new())
    }
}

impl Controller for Window {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _app_limited: bool, _rtt: &RttEstimator) {
        self.acknowledged(bytes, sent, now);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, _app_limited: bool, _largest: Option<u64>) {
        self.in_flight(in_flight, now);
    }

    fn on_congestion_event(&mut self, now: Instant, _sent: Instant, is_persistent: bool, lost_bytes: u64) {
        if lost_bytes == 0 {
            self.marked(now);
        } else {
            self.lost(lost_bytes, now);
        }
        if is_persistent {
            self.interrupted();
        }
    }

    fn on_mtu_update(&mut self, _mtu_bytes: u16) {}

    fn window(&self) -> u64 {
        self.bytes()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        INITIAL_BYTES
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
