//! Tests of the virtual machine on small kernels whose results are known.

use universal_neurons::backend::device::KernelArg;

use crate::ptx_vm::Machine;
use crate::ptx_vm::memory::Buffer;

const HEAD: &str = ".version 7.0\n.target sm_80\n.address_size 64\n";

/// Returns a kernel of 32 threads with one buffer: %rd1 holds its address, %r1 the thread index,
/// and %rd2 the address of the thread's 4-byte word.
fn kernel(body: &str) -> String {
    format!(
        "{HEAD}.visible .entry k(\n\t.param .u64 k_param_0\n)\n{{\n\t.reg .pred %p<8>;\n\t.reg .b16 %rs<8>;\n\
         \t.reg .f32 %f<16>;\n\t.reg .b32 %r<24>;\n\t.reg .b64 %rd<8>;\n\
         \t.shared .align 16 .b8 tile[512];\n\tld.param.u64 %rd1, [k_param_0];\n\tmov.u32 %r1, %tid.x;\n\
         \tmul.wide.u32 %rd2, %r1, 4;\n\tadd.s64 %rd2, %rd1, %rd2;\n\tmov.u32 %r2, tile;\n\
         \tshl.b32 %r3, %r1, 2;\n\tadd.s32 %r3, %r2, %r3;\n{body}\n\tret;\n}}\n"
    )
}

fn run(body: &str, before: &[u32], threads: usize) -> Result<Vec<u32>, String> {
    let machine = Machine::of(&kernel(body))?;
    let mut buffer = Buffer::new(before.len() * 4);
    let bytes: Vec<u8> = before.iter().flat_map(|v| v.to_le_bytes()).collect();
    buffer.fill(0, &bytes);
    machine.execute("k", [1, 1, 1], threads, &mut [KernelArg::Out(&mut buffer, 0)])?;
    let word = |at: usize| buffer.load(at * 4, 4).map(|v| v as u32);
    (0..before.len()).map(word).collect()
}

fn fault(body: &str, threads: usize) -> String {
    run(body, &[1; 32], threads).expect_err("a fault")
}

fn each(f: impl Fn(u32) -> u32) -> Vec<u32> {
    (0..32).map(f).collect()
}

#[test]
fn diverged_lanes_meet_again() {
    // Lane l adds 1 to its word l times; then all lanes shuffle.
    let body = "
	mov.u32 %r4, 0;
$L_loop:
	setp.ge.u32 %p1, %r4, %r1;
	@%p1 bra $L_done;
	add.s32 %r4, %r4, 1;
	bra $L_loop;
$L_done:
	shfl.sync.bfly.b32 %r5|%p2, %r4, 1, 31, -1;
	shl.b32 %r6, %r5, 8;
	or.b32 %r6, %r6, %r4;
	st.global.u32 [%rd2], %r6;";
    assert_eq!(run(body, &[0; 32], 32).unwrap(), each(|l| (l ^ 1) << 8 | l));
}

#[test]
fn arithmetic_has_the_width_of_its_type() {
    let cases: [(&str, u32); 9] = [
        ("add.s32 %r4, 2147483647, 1;", 0x8000_0000),
        ("shr.s32 %r4, -8, 1;", 0xffff_fffc),
        ("shl.b32 %r4, 1, 33;", 0),
        ("bfi.b32 %r4, 5, 65535, 4, 3;", 0xffdf),
        ("div.s32 %r4, -7, 2;", -3_i32 as u32),
        ("mov.f32 %f1, 0f40490FDB; cvt.rzi.s32.f32 %r4, %f1;", 3),
        ("mov.f32 %f1, 0f477FF000; cvt.rn.f16.f32 %rs1, %f1; cvt.u32.u16 %r4, %rs1;", 0x7c00),
        ("mov.f32 %f1, 0f3F808000; cvt.rn.bf16.f32 %rs1, %f1; cvt.u32.u16 %r4, %rs1;", 0x3f80),
        ("mov.f32 %f1, 0f7FC00000; max.f32 %f2, %f1, 0f40000000; mov.b32 %r4, %f2;", 0x4000_0000),
    ];
    for (code, want) in cases {
        let body = format!("{code}\n\tst.global.u32 [%rd2], %r4;");
        assert_eq!(run(&body, &[0; 32], 32).unwrap()[0], want, "{code}");
    }
}

#[test]
fn approximations_have_the_error_that_the_manual_allows() {
    let body = "\tld.global.f32 %f1, [%rd2];\n\tex2.approx.ftz.f32 %f2, %f1;\n\tst.global.f32 [%rd2], %f2;";
    let inputs: Vec<u32> = (0..32).map(|i| (i as f32 * 0.37 - 5.0).to_bits()).collect();
    for (before, after) in inputs.iter().zip(run(body, &inputs, 32).unwrap()) {
        let want = f64::from(f32::from_bits(*before)).exp2();
        let off = (f64::from(f32::from_bits(after)) / want - 1.0).abs();
        assert!(off > 1e-7 && off < 2f64.powi(-22) + 2f64.powi(-24), "{off}");
    }
}

/// Fills the fragments by the formulas of the PTX manual and compares with the product in f64.
#[test]
fn mma_is_a_product_of_matrices() {
    let body = "
	mul.wide.u32 %rd3, %r1, 16;
	add.s64 %rd3, %rd1, %rd3;
	ld.global.u32 %r4, [%rd3];
	ld.global.u32 %r5, [%rd3+4];
	ld.global.u32 %r6, [%rd3+8];
	ld.global.u32 %r7, [%rd3+12];
	mul.wide.u32 %rd4, %r1, 8;
	add.s64 %rd4, %rd1, %rd4;
	ld.global.u32 %r8, [%rd4+512];
	ld.global.u32 %r9, [%rd4+516];
	mov.f32 %f1, 0f3F800000;
	mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f2, %f3, %f4, %f5}, {%r4, %r5, %r6, %r7}, {%r8, %r9}, {%f1, %f1, %f1, %f1};
	st.global.f32 [%rd3], %f2;
	st.global.f32 [%rd3+4], %f3;
	st.global.f32 [%rd3+8], %f4;
	st.global.f32 [%rd3+12], %f5;";
    let a = |row: usize, k: usize| (row * 3 + k * 5) as f32 % 7.0 - 3.0;
    let b = |k: usize, col: usize| (k * 2 + col * 9) as f32 % 5.0 - 2.0;
    let pair = |x: f32, y: f32| {
        let bits = |v: f32| u32::from(half::f16::from_f32(v).to_bits());
        bits(x) | bits(y) << 16
    };
    let mut words = Vec::new();
    for lane in 0..32 {
        for (down, right) in [(0, 0), (8, 0), (0, 8), (8, 8)] {
            let (row, k) = (lane / 4 + down, lane % 4 * 2 + right);
            words.push(pair(a(row, k), a(row, k + 1)));
        }
    }
    for lane in 0..32 {
        for below in [0, 8] {
            let (k, col) = (lane % 4 * 2 + below, lane / 4);
            words.push(pair(b(k, col), b(k + 1, col)));
        }
    }
    let after = run(body, &words, 32).unwrap();
    for lane in 0..32 {
        for v in 0..4 {
            let (row, col) = (lane / 4 + v / 2 * 8, lane % 4 * 2 + v % 2);
            let want = 1.0 + (0..16).map(|k| a(row, k) * b(k, col)).sum::<f32>();
            assert_eq!(f32::from_bits(after[lane * 4 + v]), want, "row {row}, column {col}");
        }
    }
}

#[test]
fn ldmatrix_distributes_rows_to_lanes() {
    // Word w of shared memory holds w; matrix m consists of rows 8 m to 8 m + 7, of 16 bytes each.
    let body = "
	st.shared.u32 [%r3], %r1;
	add.s32 %r4, %r1, 32;
	st.shared.u32 [%r3+128], %r4;
	add.s32 %r4, %r1, 64;
	st.shared.u32 [%r3+256], %r4;
	add.s32 %r4, %r1, 96;
	st.shared.u32 [%r3+384], %r4;
	bar.sync 0;
	shl.b32 %r5, %r1, 4;
	add.s32 %r5, %r2, %r5;
	ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r6, %r7, %r8, %r9}, [%r5];
	shl.b32 %r7, %r7, 8;
	or.b32 %r6, %r6, %r7;
	st.global.u32 [%rd2], %r6;";
    assert_eq!(run(body, &[0; 32], 32).unwrap(), each(|l| l | (l + 32) << 8));
}

#[test]
fn faults_are_found() {
    let cases: [(&str, &str); 18] = [
        ("frobnicate.u32 %r4, %r1;", "unknown instruction frobnicate.u32"),
        ("st.global.u32 [%rd2+4], %r1;", "out of bounds"),
        ("st.global.u32 [%rd2+2], %r1;", "not a multiple of 4"),
        ("mov.u64 %rd3, 0; ld.global.u32 %r4, [%rd3];", "in no memory that was given"),
        ("add.s32 %r4, %r5, 1;", "read before it is written"),
        ("ld.shared.u32 %r4, [%r3];", "before anything was written"),
        ("st.shared.u32 [%r3+512], %r1;", "out of bounds"),
        ("st.shared.u32 [%r2], %r1;", "race"),
        ("st.shared.u32 [%r3], %r1; xor.b32 %r4, %r3, 4; ld.shared.u32 %r5, [%r4];", "race"),
        ("setp.lt.u32 %p1, %r1, 4;\n\t@%p1 bar.sync 0;", "not every lane"),
        (
            "setp.lt.u32 %p1, %r1, 4;\n\t@%p1 shfl.sync.bfly.b32 %r4|%p2, %r1, 1, 31, -1;",
            "not those it names",
        ),
        ("cp.async.cg.shared.global [%r2], [%rd1], 16, 16; ld.shared.u32 %r4, [%r2];", "race"),
        // Only some lanes, or lanes on one of two paths, write what all of them read.
        ("setp.lt.u32 %p1, %r1, 4; @%p1 mov.u32 %r5, 1; add.s32 %r4, %r5, 1;", "before it is written"),
        (
            "setp.lt.u32 %p1, %r1, 4;\n\t@%p1 bra $L_on;\n\tmov.u32 %r5, 1;\n$L_on:\n\tadd.s32 %r4, %r5, 1;",
            "before it is written",
        ),
        // All lanes read one word, which the first or the last of them wrote, or words one after the
        // other, each written by another lane.
        (
            "setp.eq.s32 %p1, %r1, 0; @%p1 st.shared.u32 [%r2], %r1; ld.shared.u32 %r4, [%r2];",
            "thread 0 wrote",
        ),
        (
            "setp.eq.s32 %p1, %r1, 31; @%p1 st.shared.u32 [%r2], %r1; ld.shared.u32 %r4, [%r2];",
            "thread 31 wrote",
        ),
        ("xor.b32 %r4, %r3, 4; st.shared.u32 [%r4], %r1; ld.shared.u32 %r5, [%r3];", "thread 1 wrote"),
        (
            "st.shared.u32 [%r3], %r1; bar.sync 0; ld.shared.u32 %r4, [%r2]; setp.eq.s32 %p1, %r1, 0;
\t@%p1 st.shared.u32 [%r2], %r1;",
            "several threads read",
        ),
    ];
    for (code, what) in cases {
        let found = fault(&format!("\t{code}"), 32);
        assert!(found.contains(what), "{code}: {found}");
    }
}

#[test]
fn an_asynchronous_copy_arrives_only_after_a_wait() {
    let copy = |wait: &str| {
        format!(
            "
	setp.ne.s32 %p1, %r1, 0;
	@%p1 bra $L_end;
	cp.async.cg.shared.global [%r2], [%rd1], 16, 8;
	cp.async.commit_group;
	{wait}
	ld.shared.u32 %r4, [%r2];
	ld.shared.u32 %r5, [%r2+12];
	add.s32 %r4, %r4, %r5;
	st.global.u32 [%rd1], %r4;
$L_end:"
        )
    };
    let found = fault(&copy(""), 32);
    assert!(found.contains("before anything was written"), "{found}");
    // Bytes beyond the requested ones are zero.
    assert_eq!(run(&copy("cp.async.wait_group 0;"), &[7; 32], 32).unwrap()[0], 7);
}

#[test]
fn input_memory_cannot_be_written() {
    let machine = Machine::of(&kernel("\tst.global.u32 [%rd2], %r1;")).unwrap();
    let buffer = Buffer::new(128);
    let found = machine.execute("k", [1, 1, 1], 32, &mut [KernelArg::In(&buffer, 0)]).unwrap_err();
    assert!(found.contains("only read"), "{found}");
    let uninitialised = Machine::of(&kernel("\tld.global.u32 %r4, [%rd2];")).unwrap();
    let found =
        uninitialised.execute("k", [1, 1, 1], 32, &mut [KernelArg::In(&buffer, 0)]).unwrap_err();
    assert!(found.contains("before anything was written"), "{found}");
}

#[test]
fn warps_meet_at_one_barrier() {
    // Warp 0 writes and warp 1 reads: correct with a barrier, a race without one.
    let exchange = |barrier: &str| {
        format!(
            "
	and.b32 %r4, %r1, 31;
	shl.b32 %r4, %r4, 2;
	add.s32 %r4, %r2, %r4;
	setp.ge.u32 %p1, %r1, 32;
	@%p1 bra $L_second;
	st.shared.u32 [%r4], %r1;
$L_second:
	{barrier}
	setp.lt.u32 %p1, %r1, 32;
	@%p1 bra $L_end;
	ld.shared.u32 %r5, [%r4];
	st.global.u32 [%rd2+-128], %r5;
$L_end:"
        )
    };
    assert_eq!(run(&exchange("bar.sync 0;"), &[9; 32], 64).unwrap(), each(|l| l));
    assert!(fault(&exchange(""), 64).contains("race"));
}
