//! Matrix instructions of recent Xeons (AMX): 16 × 16 sums and 16 × 32 factors per register.
//! Written in inline assembly because the compiler's intrinsics are unstable.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

/// Returns whether the processor and the system let this process use bf16 tiles.
pub fn usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| cfg!(target_os = "linux") && supported() && permitted())
}

/// Returns whether the processor has AMX: in leaf 7 of CPUID, EDX bit 22 is AMX-BF16 and bit 24 is
/// AMX-TILE.
fn supported() -> bool {
    __cpuid(0).eax >= 7 && {
        let edx = __cpuid_count(7, 0).edx;
        edx & (1 << 22) != 0 && edx & (1 << 24) != 0
    }
}

/// Asks Linux for permission to use the tile registers: `arch_prctl(ARCH_REQ_XCOMP_PERM,
/// XFEATURE_XTILEDATA)`.
fn permitted() -> bool {
    const ARCH_PRCTL: usize = 158;
    const REQUEST_PERMISSION: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let answer: isize;
    // SAFETY: a system call that changes no memory of this process.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL as isize => answer,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer == 0
}

/// Tile configuration: palette 1, eight registers of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

static SHAPES: Shapes = Shapes {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    bytes_per_row: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Adds a 32 × 32 tile of products of bf16 pairs: four registers of sums, two of rows, two of
/// columns.
pub unsafe fn amx(words: usize, a: *const u32, b: *const u32, tile: *mut f32, ahead: *const u32) {
    let steps = words / 16;
    if steps == 0 {
        return;
    }
    // SAFETY: the caller gives a whole tile and 16 words a step of each of 32
    // rows and columns, and the system permits the registers. No other code of
    // this program uses them.
    unsafe {
        asm!(
            "ldtilecfg [{shapes}]",
            "tileloadd tmm0, [{tile} + {wide}]",
            "tileloadd tmm1, [{tile} + {wide} + 64]",
            "tileloadd tmm2, [{below} + {wide}]",
            "tileloadd tmm3, [{below} + {wide} + 64]",
            "2:",
            "tileloadd tmm6, [{b} + {wide}]",
            "tileloadd tmm4, [{a} + {narrow}]",
            "tileloadd tmm7, [{b} + {wide} + 64]",
            "tileloadd tmm5, [{a} + {narrow} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "prefetcht1 [{ahead}]",
            "prefetcht1 [{ahead} + 64]",
            "prefetcht1 [{ahead} + 128]",
            "prefetcht1 [{ahead} + 192]",
            "add {ahead}, 256",
            "add {a}, 2048",
            "add {b}, 2048",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{tile} + {wide}], tmm0",
            "tilestored [{tile} + {wide} + 64], tmm1",
            "tilestored [{below} + {wide}], tmm2",
            "tilestored [{below} + {wide} + 64], tmm3",
            "tilerelease",
            shapes = in(reg) &raw const SHAPES,
            tile = in(reg) tile,
            below = in(reg) tile.add(16 * 32),
            ahead = inout(reg) ahead => _,
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            steps = inout(reg) steps => _,
            wide = in(reg) 128_usize,
            narrow = in(reg) 64_usize,
            options(nostack),
        );
    }
}
