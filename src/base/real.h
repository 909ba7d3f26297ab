// SPDX-License-Identifier: Apache-2.0
/* The element type of activations, weights and gradients.
 *
 * The library computes in f32. The same sources are compiled a second time with SGM_REAL_IS_DOUBLE for the gradient
 * tests, which compare backward passes with central differences and need f64 for that; only the reference kernels exist
 * there. Nothing outside src/ sees this type. */
#ifndef SGM_BASE_REAL_H
#define SGM_BASE_REAL_H

#ifdef SGM_REAL_IS_DOUBLE
typedef double sgm_real;
#define SGM_REAL_NAME "f64"
#else
typedef float sgm_real;
#define SGM_REAL_NAME "f32"
#endif

#endif
