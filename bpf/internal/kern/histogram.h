/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#ifndef HEADROOM_HISTOGRAM_H
#define HEADROOM_HISTOGRAM_H

#include "types.h"

/* Bucket i counts durations of 2^i up to 2^(i+1) us; the first has all shorter
 * ones too, the last all longer ones. */
#define BUCKETS 24

static __always_inline u32 log2_us(u64 ns)
{
	u64 us;
	u32 log = 0;

	/* Nearly always ns fits 32 bits, for which this is ns / 1000 without dividing. */
	us = ns >> 32 ? ns / 1000 : ns * 0x10624dd3 >> 38;
	if (us >> 32)
		return BUCKETS - 1;
	if (us >> 16) {
		us >>= 16;
		log += 16;
	}
	if (us >> 8) {
		us >>= 8;
		log += 8;
	}
	if (us >> 4) {
		us >>= 4;
		log += 4;
	}
	if (us >> 2) {
		us >>= 2;
		log += 2;
	}
	if (us >> 1)
		log += 1;
	return log < BUCKETS ? log : BUCKETS - 1;
}

#endif
