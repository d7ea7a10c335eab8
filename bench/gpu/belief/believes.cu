/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What NVIDIA's runtime says of the device's memory, and that it works all the same: prints one line
 * `free=N total=N props=N sum=ok`, or what went wrong, and exits 0 or 1.
 */
#include <cstdio>
#include <cuda_runtime.h>

static __global__ void add(const int *a, const int *b, int *c)
{
	c[threadIdx.x] = a[threadIdx.x] + b[threadIdx.x];
}

#define CHECK(call)                                                                                \
	do {                                                                                       \
		cudaError_t e_ = (call);                                                           \
		if (e_ != cudaSuccess) {                                                           \
			printf("%s: error %d (%s)\n", #call, (int)e_, cudaGetErrorName(e_));       \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

int main()
{
	size_t left, total;
	cudaDeviceProp props;
	int h[64], *a, *b, *c;
	bool good = true;

	CHECK(cudaMemGetInfo(&left, &total));
	CHECK(cudaGetDeviceProperties(&props, 0));
	CHECK(cudaMalloc(&a, sizeof(h)));
	CHECK(cudaMalloc(&b, sizeof(h)));
	CHECK(cudaMalloc(&c, sizeof(h)));
	for (int i = 0; i < 64; i++)
		h[i] = i;
	CHECK(cudaMemcpy(a, h, sizeof(h), cudaMemcpyHostToDevice));
	CHECK(cudaMemcpy(b, h, sizeof(h), cudaMemcpyHostToDevice));
	add<<<1, 64>>>(a, b, c);
	CHECK(cudaGetLastError());
	CHECK(cudaMemcpy(h, c, sizeof(h), cudaMemcpyDeviceToHost));
	for (int i = 0; i < 64; i++)
		good = good && h[i] == 2 * i;
	printf("free=%zu total=%zu props=%zu sum=%s\n", left, total, (size_t)props.totalGlobalMem,
	       good ? "ok" : "wrong");
	return good ? 0 : 1;
}
