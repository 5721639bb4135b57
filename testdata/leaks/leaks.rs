// SPDX-License-Identifier: Apache-2.0

//! leaksrs: a Rust program with one leak and some innocents, as leaks.c.
//!
//!     leaksrs boxes|vec SECONDS BYTES_PER_SECOND
//!
//! "boxes" forgets pieces of 256 KiB, "vec" keeps small ones in a vector. The
//! innocents: vectors that live for a moment, and a queue of fixed length.

use std::arch::asm;
use std::collections::VecDeque;
use std::io::Write;
use std::time::{Duration, Instant};

const KIB: usize = 1024;

/// What the compiler knows nothing about any more: std has it since 1.66 only.
#[inline(always)]
fn black_box<T>(value: T) -> T {
    unsafe { asm!("/* {0} */", in(reg) &value) };
    value
}

#[inline(never)]
fn leak_boxes(len: usize) -> usize {
    let mut done = 0;
    while done < len {
        black_box(Box::leak(vec![1u8; 256 * KIB].into_boxed_slice()));
        done += 256 * KIB;
    }
    done
}

#[inline(never)]
fn leak_vec(kept: &mut Vec<Box<[u8]>>, len: usize) -> usize {
    let mut done = 0;
    while done < len {
        kept.push(black_box(vec![1u8; 2 * KIB].into_boxed_slice()));
        done += 2 * KIB;
    }
    done
}

#[inline(never)]
fn churn() {
    black_box(vec![1u8; 16 * KIB]);
}

#[inline(never)]
fn queue_push(queue: &mut VecDeque<Vec<u8>>) {
    if queue.len() == 64 {
        queue.pop_front();
    }
    queue.push_back(black_box(vec![1u8; 16 * KIB]));
}

/// The address that the first mapping of the program itself has: the base of a
/// position independent one.
fn base() -> usize {
    let exe = std::fs::read_link("/proc/self/exe").expect("read /proc/self/exe");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("read /proc/self/maps");
    let row = maps
        .lines()
        .find(|l| l.ends_with(exe.to_str().expect("a path in UTF-8")))
        .expect("the program is mapped");
    usize::from_str_radix(row.split('-').next().unwrap_or(""), 16).expect("an address")
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let usage = || -> ! {
        eprintln!("usage: leaksrs boxes|vec SECONDS BYTES_PER_SECOND");
        std::process::exit(2)
    };
    if args.len() != 4 {
        usage()
    }
    let (duration, rate): (f64, f64) = match (args[2].parse(), args[3].parse()) {
        (Ok(d), Ok(r)) if d > 0.0 && r > 0.0 => (d, r),
        _ => usage(),
    };
    let (name, start) = match args[1].as_str() {
        "boxes" => ("leaks::leak_boxes", leak_boxes as *const () as usize),
        "vec" => ("leaks::leak_vec", leak_vec as *const () as usize),
        _ => usage(),
    };
    println!("culprit {name} {:#x}\nready", start - base());
    std::io::stdout().flush().expect("write stdout");

    let began = Instant::now();
    let (mut kept, mut queue, mut done) = (Vec::new(), VecDeque::new(), 0);
    loop {
        let t = began.elapsed().as_secs_f64();
        if t >= duration {
            return;
        }
        let due = (t * rate) as usize;
        if due > done {
            done += match name {
                "leaks::leak_boxes" => leak_boxes(due - done),
                _ => leak_vec(&mut kept, due - done),
            };
        }
        churn();
        queue_push(&mut queue);
        std::thread::sleep(Duration::from_millis(20));
    }
}
