//! Plain loops compiled for the widest registers of the processor.
//!
//! A program for every machine is compiled for the oldest processor. Functions defined here are
//! also compiled for newer ones and chosen at run time. The operations and their order stay the
//! same (nothing is fused), and so do the bits.

/// Defines a function that is also compiled for AVX-512 and AVX2. Everything that it calls must be
/// inlined, which the methods of arrays and of `Zip` are not in tests.
macro_rules! widened {
    ($(#[$doc:meta])* $vis:vis fn $name:ident $(<const $w:ident: usize>)?
        ($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        $vis fn $name $(<const $w: usize>)? ($($arg: $ty),*) {
            #[inline(always)]
            fn plain $(<const $w: usize>)? ($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx2")]
            unsafe fn avx512 $(<const $w: usize>)? ($($arg: $ty),*) {
                plain $(::<$w>)? ($($arg),*);
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            unsafe fn avx2 $(<const $w: usize>)? ($($arg: $ty),*) {
                plain $(::<$w>)? ($($arg),*);
            }

            #[cfg(target_arch = "x86_64")]
            {
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
                    // SAFETY: the processor has the instructions.
                    return unsafe { avx512 $(::<$w>)? ($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has the instructions.
                    return unsafe { avx2 $(::<$w>)? ($($arg),*) };
                }
            }
            plain $(::<$w>)? ($($arg),*);
        }
    };
}

pub(crate) use widened;

/// Two iterators in step. The methods of the standard library's `Zip` are not inlined where a crate
/// is compiled in parts without LTO, as in tests; but a loop over this one is vectorised only where
/// the number of steps is known to the compiler.
pub(crate) struct Both<A, B>(pub A, pub B);

impl<A: Iterator, B: Iterator> Iterator for Both<A, B> {
    type Item = (A::Item, B::Item);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.next()?, self.1.next()?))
    }
}
