//! The allocator of a transform in WebAssembly.
//!
//! A change costs dozens of small allocations, most of them freed within the call, and the target's own allocator
//! makes each of them dear. Here blocks of up to 4 KiB come in sizes of a power of two, and a freed block waits in a
//! list for the next of its size: to allocate is to take the first of a list. Larger ones go to the target's own
//! allocator. An instance lives long and does the same again and again, so that what waits in the lists is soon used.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null_mut;

#[cfg(target_feature = "atomics")]
compile_error!("this allocator is for modules without threads");

#[global_allocator]
static ALLOCATOR: SizeClasses = SizeClasses {
    free: [const { Cell::new(null_mut()) }; CLASSES],
    fresh: Cell::new(null_mut()),
    fresh_bytes: Cell::new(0),
};

/// The smallest block; every block is aligned to it.
const SMALLEST: usize = 16;
const CLASSES: usize = 9;
const LARGEST: usize = SMALLEST << (CLASSES - 1);
/// How much is asked for at once, to cut blocks from.
const CHUNK: usize = 64 << 10;

struct SizeClasses {
    /// The first free block of each class. A free block begins with the address of the next.
    free: [Cell<*mut u8>; CLASSES],
    /// What has not been cut into blocks yet.
    fresh: Cell<*mut u8>,
    fresh_bytes: Cell<usize>,
}

// SAFETY: the target has no threads, as is checked above.
#[allow(unsafe_code)]
unsafe impl Sync for SizeClasses {}

/// The class of blocks that hold this; none for what the target's own allocator serves.
#[inline]
fn class_of(size: usize, align: usize) -> Option<usize> {
    if size > LARGEST || align > SMALLEST {
        return None;
    }
    Some((usize::BITS - (size.saturating_sub(1) / SMALLEST).leading_zeros()) as usize)
}

impl SizeClasses {
    /// A block that was never used.
    #[cold]
    #[allow(unsafe_code)]
    fn cut(&self, class: usize) -> *mut u8 {
        let size = SMALLEST << class;
        if self.fresh_bytes.get() < size {
            // SAFETY: the layout's size is not zero, its alignment a power of two.
            let chunk = unsafe { System.alloc(Layout::from_size_align_unchecked(CHUNK, SMALLEST)) };
            if chunk.is_null() {
                return chunk;
            }
            self.fresh.set(chunk);
            self.fresh_bytes.set(CHUNK);
        }
        let block = self.fresh.get();
        // SAFETY: at least `size` bytes of the chunk are left.
        self.fresh.set(unsafe { block.add(size) });
        self.fresh_bytes.set(self.fresh_bytes.get() - size);
        block
    }
}

// SAFETY: a block of a class is a multiple of 16 bytes, cut from a chunk that is aligned to 16 bytes, so it is aligned
// as every layout of a class asks, and large enough for it. It is handed out by one list or one cut alone, and returns
// to a list when it is freed. Class and allocator follow from the layout, which is the same when a block is freed as
// when it was allocated.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for SizeClasses {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout.size(), layout.align()) else {
            // SAFETY: the caller's promises, passed on.
            return unsafe { System.alloc(layout) };
        };
        let block = self.free[class].get();
        if block.is_null() {
            return self.cut(class);
        }
        // SAFETY: a free block begins with an address, and is aligned for it.
        self.free[class].set(unsafe { block.cast::<*mut u8>().read() });
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = class_of(layout.size(), layout.align()) else {
            // SAFETY: the caller's promises, passed on; `alloc` has sent this layout the same way.
            return unsafe { System.dealloc(block, layout) };
        };
        // SAFETY: the block is nobody's any more, has room for an address, and is aligned for it.
        unsafe { block.cast::<*mut u8>().write(self.free[class].get()) };
        self.free[class].set(block);
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match (class_of(layout.size(), layout.align()), class_of(size, layout.align())) {
            // SAFETY: the caller's promises, passed on; both sizes are the target's own allocator's.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (old, new) if old == new => block,
            _ => {
                // SAFETY: the caller promises that the new size makes a layout; the blocks are two, and what is copied
                // fits both.
                unsafe {
                    let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
                    if !moved.is_null() {
                        moved.copy_from_nonoverlapping(block, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}
