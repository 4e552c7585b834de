//! A driver that is none: device memory is memory, and of all kernels it knows `embed`
//! alone. Compiled by `stub.rs` to a `libcuda.so`, so that the code that talks to a
//! driver runs on machines without one. It proves how the driver is called, not what
//! kernels do.

#![allow(non_snake_case, clippy::missing_safety_doc)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

const OUT_OF_MEMORY: c_int = 2;
static TEXT: &[u8] = b"text of the stub\0";
static NAME: &[u8] = b"stub card\0";

macro_rules! succeed {
    ($($name:ident($($type:ty),*);)*) => {
        $(#[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($(_: $type),*) -> c_int {
            0
        })*
    };
}

succeed! {
    cuInit(c_uint);
    cuCtxSetCurrent(*mut c_void);
    cuDevicePrimaryCtxRelease_v2(c_int);
    cuStreamSynchronize(*mut c_void);
    cuStreamDestroy_v2(*mut c_void);
    cuStreamWaitEvent(*mut c_void, *mut c_void, c_uint);
    cuEventRecord(*mut c_void, *mut c_void);
    cuEventDestroy_v2(*mut c_void);
    cuEventSynchronize(*mut c_void);
    cuModuleUnload(*mut c_void);
    cuCtxSynchronize();
    cuMemFreeAsync(u64, *mut c_void);
    cuMemFree_v2(u64);
}

macro_rules! hand_out {
    ($($name:ident($out:ident: $type:ty, $value:expr $(, $rest:ty)*);)*) => {
        $(#[unsafe(no_mangle)] pub unsafe extern "C" fn $name($out: *mut $type $(, _: $rest)*) -> c_int {
            unsafe { *$out = $value };
            0
        })*
    };
}

hand_out! {
    cuDeviceGetCount(out: c_int, 1);
    cuDeviceGet(out: c_int, 0, c_int);
    // Every attribute is 9: compute capability 9.9; no other attribute is used.
    cuDeviceGetAttribute(out: c_int, 9, c_int, c_int);
    cuDevicePrimaryCtxRetain(out: usize, 1, c_int);
    cuCtxGetCurrent(out: usize, 1);
    cuStreamCreate(out: usize, 1, c_uint);
    cuEventCreate(out: usize, 1, c_uint);
    cuModuleLoadData(out: usize, 1, *const c_void);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(_: c_int, out: *mut *const c_char) -> c_int {
    unsafe { *out = TEXT.as_ptr().cast() };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(out: *mut c_char, _: c_int, _: c_int) -> c_int {
    unsafe { std::ptr::copy_nonoverlapping(NAME.as_ptr().cast(), out, NAME.len()) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> c_int {
    unsafe { (*free, *total) = (1 << 20, 1 << 21) };
    0
}

/// Functions are identified by the length of their name: `embed` has five letters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(out: *mut usize, _: *mut c_void, name: *const c_char) -> c_int {
    unsafe { *out = CStr::from_ptr(name).to_bytes().len() };
    0
}

unsafe fn allocate(out: *mut u64, bytes: usize) -> c_int {
    if bytes > 1 << 30 {
        return OUT_OF_MEMORY;
    }
    // Never freed, because the process ends soon.
    unsafe { *out = Box::leak(vec![0xff_u8; bytes].into_boxed_slice()).as_mut_ptr() as u64 };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocAsync(out: *mut u64, bytes: usize, _: *mut c_void) -> c_int {
    unsafe { allocate(out, bytes) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(out: *mut u64, bytes: usize) -> c_int {
    unsafe { allocate(out, bytes) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: *const u8, n: usize, _: *mut c_void) -> c_int {
    unsafe { std::ptr::copy_nonoverlapping(from, to as *mut u8, n) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut u8, from: u64, n: usize, _: *mut c_void) -> c_int {
    unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to, n) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemsetD8Async(to: u64, value: u8, n: usize, _: *mut c_void) -> c_int {
    unsafe { std::ptr::write_bytes(to as *mut u8, value, n) };
    0
}

/// `embed(embed, pos_embed, id, position, d, resid)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernel(
    function: usize,
    x: c_uint,
    _: c_uint,
    _: c_uint,
    threads: c_uint,
    _: c_uint,
    _: c_uint,
    _: c_uint,
    _: *mut c_void,
    params: *mut *mut c_void,
    _: *mut *mut c_void,
) -> c_int {
    if function != "embed".len() || threads != 256 {
        return 1;
    }
    unsafe {
        let pointer = |i: usize| *(*params.add(i) as *const u64);
        let table = |i: usize| pointer(i) as *const f32;
        let index = |i: usize, t: usize| *(pointer(i) as *const u32).add(t) as usize;
        let d = *(*params.add(4) as *const u32) as usize;
        let out = pointer(5) as *mut f32;
        for t in 0..x as usize {
            for c in 0..d {
                let value = *table(0).add(index(2, t) * d + c) + *table(1).add(index(3, t) * d + c);
                *out.add(t * d + c) = value;
            }
        }
    }
    0
}
