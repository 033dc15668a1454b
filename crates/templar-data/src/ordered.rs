//! Work in parallel, with results in order and bounded queues between the threads.
//!
//! One thread produces items, several work on them, and the calling thread consumes the results in the order in which
//! the items were produced. So no result depends on the number of threads. A slow consumer slows the others down: at
//! most about four items for each worker exist at a time, however long the input is.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Takes the items of a producer. It breaks where nobody wants more of them, because the consumer failed.
pub(crate) type Feed<'a, I> = &'a mut dyn FnMut(I) -> ControlFlow<()>;

/// Runs `produce` on a thread of its own and `work` on `threads` threads. `consume` gets the results in order, and runs
/// on the calling thread.
///
/// # Errors
/// The error of `consume`, or else that of `produce`. `consume` gets the results of all items before an error of
/// `produce`, so the error is the first one in the order of the items.
pub(crate) fn in_order<I: Send, O: Send, E: Send, R: Send>(
    threads: NonZero<usize>,
    produce: impl FnOnce(Feed<'_, I>) -> Result<R, E> + Send,
    work: impl Fn(I) -> O + Sync,
    mut consume: impl FnMut(O) -> Result<(), E>,
) -> Result<R, E> {
    let threads = threads.get();
    let (to_workers, jobs) = sync_channel::<(I, SyncSender<O>)>(threads);
    let (to_consumer, results) = sync_channel::<Receiver<O>>(2 * threads);
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
    thread::scope(|scope| {
        let producer = scope.spawn(move || {
            produce(&mut |item| {
                let (done, result) = sync_channel(1);
                // Where the consumer has gone, so has the reason to go on.
                if to_consumer.send(result).is_ok() && to_workers.send((item, done)).is_ok() {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })
        });
        for _ in 0..threads {
            scope.spawn(|| {
                while let Ok((item, done)) = next() {
                    // The consumer may have failed in the meantime.
                    let _ = done.send(work(item));
                }
            });
        }
        // The receivers are dropped with the loop, so a producer that waits for room goes on and ends. A result that
        // never comes is that of a worker that panicked; the scope passes the panic on.
        let consumed = results.into_iter().map_while(|result| result.recv().ok()).try_for_each(&mut consume);
        let produced = producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        consumed.and(produced)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn threads(count: usize) -> NonZero<usize> {
        NonZero::new(count).unwrap()
    }

    /// Feeds the numbers below `count`, and says how many were taken.
    fn numbers(count: usize) -> impl FnOnce(Feed<'_, usize>) -> Result<usize, String> + Send {
        move |feed| Ok((0..count).take_while(|&number| feed(number).is_continue()).count())
    }

    #[test]
    fn results_come_in_the_order_of_the_items() {
        for count in [1, 2, 7] {
            let mut found = Vec::new();
            // Later items are ready sooner.
            let work = |number: usize| (0..(200 - number) * 50).fold(number, |sum, _| std::hint::black_box(sum));
            let taken = in_order(threads(count), numbers(200), work, |number| {
                found.push(number);
                Ok(())
            });
            assert_eq!(taken, Ok(200));
            assert_eq!(found, (0..200).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_in_the_order_of_the_items_counts() {
        let produce = |feed: Feed<'_, usize>| -> Result<(), String> {
            (0..5).for_each(|number| assert!(feed(number).is_continue()));
            Err("produce".to_owned())
        };
        let mut consumed = 0;
        let consume = |_| {
            consumed += 1;
            Ok(())
        };
        assert_eq!(in_order(threads(2), produce, |number| number, consume), Err("produce".to_owned()));
        assert_eq!(consumed, 5, "what came before the error is consumed");
        let consume = |number| if number == 3 { Err("consume".to_owned()) } else { Ok(()) };
        assert_eq!(in_order(threads(2), numbers(1000), |number| number, consume), Err("consume".to_owned()));
    }

    #[test]
    fn a_slow_consumer_bounds_what_is_under_way() {
        let produced = AtomicUsize::new(0);
        let produce = |feed: Feed<'_, usize>| -> Result<(), String> {
            for number in 0..500 {
                produced.fetch_add(1, Ordering::SeqCst);
                assert!(feed(number).is_continue());
            }
            Ok(())
        };
        let consume = |number| {
            let ahead = produced.load(Ordering::SeqCst) - number;
            if ahead <= 10 { Ok(()) } else { Err(format!("{ahead} items ahead")) }
        };
        assert_eq!(in_order(threads(2), produce, |number| number, consume), Ok(()));
    }
}
