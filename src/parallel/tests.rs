use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::{Columns, Pool};

#[test]
fn every_part_runs_once_on_its_own_index() {
    for threads in [1, 2, 3, 5, 9] {
        let pool = Pool::new(Some(threads));
        for round in 0..300 {
            let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            pool.run(|index, count| {
                assert_eq!(count, threads);
                counts[index].fetch_add(1, SeqCst);
            });
            assert!(counts.iter().all(|c| c.load(SeqCst) == 1), "{threads} threads, round {round}: {counts:?}");
        }
    }
}

#[test]
fn parked_workers_wake_up_again() {
    let pool = Pool::new(Some(3));
    for _ in 0..5 {
        let sum = AtomicUsize::new(0);
        pool.run(|index, _| _ = sum.fetch_add(index, SeqCst));
        assert_eq!(sum.into_inner(), 3);
        std::thread::sleep(Duration::from_millis(3));
    }
}

#[test]
fn parts_run_once_each_where_threads_outnumber_cores() {
    // Late workers find their parts begun by the caller, or the next section under way.
    let pool = Pool::new(Some(64));
    for _ in 0..50 {
        let counts: Vec<AtomicUsize> = (0..64).map(|_| AtomicUsize::new(0)).collect();
        pool.run(|index, _| {
            counts[index].fetch_add(1, SeqCst);
            let until = Instant::now() + Duration::from_micros(5);
            while Instant::now() < until {}
        });
        assert!(counts.iter().all(|c| c.load(SeqCst) == 1), "{counts:?}");
    }
}

#[test]
fn a_caller_waits_for_a_slow_worker() {
    let pool = Pool::new(Some(2));
    let done = AtomicUsize::new(0);
    pool.run(|index, _| {
        std::thread::sleep(Duration::from_millis(20 * index as u64));
        done.fetch_add(1, SeqCst);
    });
    assert_eq!(done.into_inner(), 2);
}

#[test]
fn a_panic_reaches_the_caller_and_leaves_the_pool_usable() {
    let pool = Pool::new(Some(4));
    for bad in [0, 1, 3] {
        let ran = AtomicUsize::new(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.run(|index, _| {
                ran.fetch_add(1, SeqCst);
                assert!(index != bad, "part {index} fails");
            });
        }));
        let message = *outcome.expect_err("a panic").downcast::<String>().expect("a message");
        assert_eq!(message, format!("part {bad} fails"));
        assert_eq!(ran.into_inner(), 4);
    }
    let sum = AtomicUsize::new(0);
    pool.run(|index, _| _ = sum.fetch_add(index, SeqCst));
    assert_eq!(sum.into_inner(), 6);
}

#[test]
fn callers_take_turns() {
    let pool = Pool::new(Some(3));
    let sum = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..200).for_each(|_| pool.run(|index, _| _ = sum.fetch_add(index + 1, SeqCst))));
        }
    });
    assert_eq!(sum.into_inner(), 4 * 200 * 6);
}

#[test]
fn a_call_inside_a_part_runs_inline() {
    let (outer, other) = (Pool::new(Some(3)), Pool::new(Some(2)));
    let calls = AtomicUsize::new(0);
    outer.run(|_, _| {
        for pool in [&outer, &other] {
            pool.run(|index, count| {
                assert_eq!((index, count), (0, 1));
                calls.fetch_add(1, SeqCst);
            });
        }
    });
    assert_eq!(calls.into_inner(), 6);
}

#[test]
fn columns_are_shared_out_without_gap_or_overlap() {
    for threads in 1..=5 {
        let pool = Pool::new(Some(threads));
        for rows in [1, 3] {
            let (mut a, mut b, mut empty) = (vec![0.0; rows * 37], vec![0.0; rows * 100], vec![0.0; 0]);
            let mut matrices = [Columns::new(&mut a, rows), Columns::new(&mut empty, rows), Columns::new(&mut b, rows)];
            pool.fill(&mut matrices, 16, |matrix, mut columns| {
                let range = columns.range();
                assert_eq!(range.start % 16, 0);
                for row in 0..rows {
                    for (value, column) in columns.row_mut(row).iter_mut().zip(range.clone()) {
                        *value += (1000 * matrix + 200 * row + column) as f32;
                    }
                }
            });
            for (matrix, data, cols) in [(0, &a, 37), (2, &b, 100)] {
                for (i, &value) in data.iter().enumerate() {
                    assert_eq!(value, (1000 * matrix + 200 * (i / cols) + i % cols) as f32);
                }
            }
        }
    }
}

#[cfg(unix)]
#[test]
#[expect(unsafe_code, reason = "fork")]
fn a_forked_child_starts_its_own_threads() {
    let pool = Pool::new(Some(3));
    let sum = AtomicUsize::new(0);
    pool.run(|index, _| _ = sum.fetch_add(index, SeqCst));
    // SAFETY: the child runs the pool and leaves by `_exit`, so no handler or destructor of the parent runs twice.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let sum = AtomicUsize::new(0);
        (0..10).for_each(|_| pool.run(|index, _| _ = sum.fetch_add(index, SeqCst)));
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(sum.into_inner() != 30)) };
    }
    assert!(child > 0, "fork");
    let mut status = -1;
    for _ in 0..2000 {
        // SAFETY: `status` outlives the call.
        if unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == child {
            assert_eq!(status, 0, "the child got a wrong sum");
            pool.run(|index, _| _ = sum.fetch_add(index, SeqCst));
            assert_eq!(sum.into_inner(), 6);
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // SAFETY: the child is ours.
    unsafe { libc::kill(child, libc::SIGKILL) };
    panic!("the child hangs");
}
