/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuDeviceGetAttribute. What differs between cards comes from the profile; the rest is what all
 * cards here have in common.
 * Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability" (12.x) for
 * limits; deviceQuery of such cards for the others; what a simulated device cannot do is said so.
 */
#include "sim.h"

#include "base/banned.h"

/* The same on every card: ATTR(name, value). */
#define COMMON_ATTRIBUTES(ATTR)                                                                    \
	ATTR(MAX_THREADS_PER_BLOCK, 1024)                                                          \
	ATTR(MAX_BLOCK_DIM_X, 1024)                                                                \
	ATTR(MAX_BLOCK_DIM_Y, 1024)                                                                \
	ATTR(MAX_BLOCK_DIM_Z, 64)                                                                  \
	ATTR(MAX_GRID_DIM_X, INT32_MAX)                                                            \
	ATTR(MAX_GRID_DIM_Y, 65535)                                                                \
	ATTR(MAX_GRID_DIM_Z, 65535)                                                                \
	ATTR(MAX_SHARED_MEMORY_PER_BLOCK, 48 << 10)                                                \
	ATTR(TOTAL_CONSTANT_MEMORY, 64 << 10)                                                      \
	ATTR(WARP_SIZE, 32)                                                                        \
	ATTR(MAX_PITCH, INT32_MAX)                                                                 \
	ATTR(MAX_REGISTERS_PER_BLOCK, 65536)                                                       \
	ATTR(TEXTURE_ALIGNMENT, 512)                                                               \
	ATTR(GPU_OVERLAP, 1)                                                                       \
	ATTR(KERNEL_EXEC_TIMEOUT, 0)                                                               \
	ATTR(INTEGRATED, 0)                                                                        \
	ATTR(CAN_MAP_HOST_MEMORY, 1)                                                               \
	ATTR(COMPUTE_MODE, CU_COMPUTEMODE_DEFAULT)                                                 \
	ATTR(MAXIMUM_TEXTURE1D_WIDTH, 131072)                                                      \
	ATTR(MAXIMUM_TEXTURE2D_WIDTH, 131072)                                                      \
	ATTR(MAXIMUM_TEXTURE2D_HEIGHT, 65536)                                                      \
	ATTR(MAXIMUM_TEXTURE3D_WIDTH, 16384)                                                       \
	ATTR(MAXIMUM_TEXTURE3D_HEIGHT, 16384)                                                      \
	ATTR(MAXIMUM_TEXTURE3D_DEPTH, 16384)                                                       \
	ATTR(MAXIMUM_TEXTURE2D_LAYERED_WIDTH, 32768)                                               \
	ATTR(MAXIMUM_TEXTURE2D_LAYERED_HEIGHT, 32768)                                              \
	ATTR(MAXIMUM_TEXTURE2D_LAYERED_LAYERS, 2048)                                               \
	ATTR(SURFACE_ALIGNMENT, 512)                                                               \
	ATTR(CONCURRENT_KERNELS, 1)                                                                \
	ATTR(PCI_DEVICE_ID, 0)                                                                     \
	ATTR(PCI_DOMAIN_ID, 0)                                                                     \
	ATTR(TCC_DRIVER, 0)                                                                        \
	ATTR(UNIFIED_ADDRESSING, 1)                                                                \
	ATTR(MAXIMUM_TEXTURE1D_LAYERED_WIDTH, 32768)                                               \
	ATTR(MAXIMUM_TEXTURE1D_LAYERED_LAYERS, 2048)                                               \
	ATTR(CAN_TEX2D_GATHER, 1)                                                                  \
	ATTR(MAXIMUM_TEXTURE2D_GATHER_WIDTH, 32768)                                                \
	ATTR(MAXIMUM_TEXTURE2D_GATHER_HEIGHT, 32768)                                               \
	ATTR(MAXIMUM_TEXTURE3D_WIDTH_ALTERNATE, 8192)                                              \
	ATTR(MAXIMUM_TEXTURE3D_HEIGHT_ALTERNATE, 8192)                                             \
	ATTR(MAXIMUM_TEXTURE3D_DEPTH_ALTERNATE, 32768)                                             \
	ATTR(TEXTURE_PITCH_ALIGNMENT, 32)                                                          \
	ATTR(MAXIMUM_TEXTURECUBEMAP_WIDTH, 32768)                                                  \
	ATTR(MAXIMUM_TEXTURECUBEMAP_LAYERED_WIDTH, 32768)                                          \
	ATTR(MAXIMUM_TEXTURECUBEMAP_LAYERED_LAYERS, 2046)                                          \
	ATTR(MAXIMUM_SURFACE1D_WIDTH, 32768)                                                       \
	ATTR(MAXIMUM_SURFACE2D_WIDTH, 131072)                                                      \
	ATTR(MAXIMUM_SURFACE2D_HEIGHT, 65536)                                                      \
	ATTR(MAXIMUM_SURFACE3D_WIDTH, 16384)                                                       \
	ATTR(MAXIMUM_SURFACE3D_HEIGHT, 16384)                                                      \
	ATTR(MAXIMUM_SURFACE3D_DEPTH, 16384)                                                       \
	ATTR(MAXIMUM_SURFACE1D_LAYERED_WIDTH, 32768)                                               \
	ATTR(MAXIMUM_SURFACE1D_LAYERED_LAYERS, 2048)                                               \
	ATTR(MAXIMUM_SURFACE2D_LAYERED_WIDTH, 32768)                                               \
	ATTR(MAXIMUM_SURFACE2D_LAYERED_HEIGHT, 32768)                                              \
	ATTR(MAXIMUM_SURFACE2D_LAYERED_LAYERS, 2048)                                               \
	ATTR(MAXIMUM_SURFACECUBEMAP_WIDTH, 32768)                                                  \
	ATTR(MAXIMUM_SURFACECUBEMAP_LAYERED_WIDTH, 32768)                                          \
	ATTR(MAXIMUM_SURFACECUBEMAP_LAYERED_LAYERS, 2046)                                          \
	ATTR(MAXIMUM_TEXTURE1D_LINEAR_WIDTH, 1 << 28)                                              \
	ATTR(MAXIMUM_TEXTURE2D_LINEAR_WIDTH, 131072)                                               \
	ATTR(MAXIMUM_TEXTURE2D_LINEAR_HEIGHT, 65000)                                               \
	ATTR(MAXIMUM_TEXTURE2D_LINEAR_PITCH, 2097120)                                              \
	ATTR(MAXIMUM_TEXTURE2D_MIPMAPPED_WIDTH, 32768)                                             \
	ATTR(MAXIMUM_TEXTURE2D_MIPMAPPED_HEIGHT, 32768)                                            \
	ATTR(MAXIMUM_TEXTURE1D_MIPMAPPED_WIDTH, 32768)                                             \
	ATTR(STREAM_PRIORITIES_SUPPORTED, 1)                                                       \
	ATTR(GLOBAL_L1_CACHE_SUPPORTED, 1)                                                         \
	ATTR(LOCAL_L1_CACHE_SUPPORTED, 1)                                                          \
	ATTR(MAX_REGISTERS_PER_MULTIPROCESSOR, 65536)                                              \
	ATTR(MANAGED_MEMORY, 1)                                                                    \
	ATTR(MULTI_GPU_BOARD, 0)                                                                   \
	ATTR(HOST_NATIVE_ATOMIC_SUPPORTED, 0)                                                      \
	ATTR(PAGEABLE_MEMORY_ACCESS, 0)                                                            \
	ATTR(CONCURRENT_MANAGED_ACCESS, 1)                                                         \
	ATTR(COMPUTE_PREEMPTION_SUPPORTED, 1)                                                      \
	ATTR(CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, 1)                                           \
	ATTR(CAN_USE_STREAM_MEM_OPS_V1, 0)                                                         \
	ATTR(CAN_USE_64_BIT_STREAM_MEM_OPS_V1, 0)                                                  \
	ATTR(CAN_USE_STREAM_WAIT_VALUE_NOR_V1, 0)                                                  \
	ATTR(COOPERATIVE_LAUNCH, 1)                                                                \
	ATTR(COOPERATIVE_MULTI_DEVICE_LAUNCH, 0)                                                   \
	ATTR(CAN_FLUSH_REMOTE_WRITES, 0)                                                           \
	ATTR(HOST_REGISTER_SUPPORTED, 1)                                                           \
	ATTR(PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES, 0)                                      \
	ATTR(DIRECT_MANAGED_MEM_ACCESS_FROM_HOST, 0)                                               \
	ATTR(VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 1)                                               \
	ATTR(HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, 1)                                       \
	ATTR(HANDLE_TYPE_WIN32_HANDLE_SUPPORTED, 0)                                                \
	ATTR(HANDLE_TYPE_WIN32_KMT_HANDLE_SUPPORTED, 0)                                            \
	ATTR(GENERIC_COMPRESSION_SUPPORTED, 0)                                                     \
	ATTR(MAX_ACCESS_POLICY_WINDOW_SIZE, 128 << 20)                                             \
	ATTR(GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, 0)                                           \
	ATTR(RESERVED_SHARED_MEMORY_PER_BLOCK, 1024)                                               \
	ATTR(SPARSE_CUDA_ARRAY_SUPPORTED, 0)                                                       \
	ATTR(READ_ONLY_HOST_REGISTER_SUPPORTED, 1)                                                 \
	ATTR(TIMELINE_SEMAPHORE_INTEROP_SUPPORTED, 0)                                              \
	ATTR(MEMORY_POOLS_SUPPORTED, 1)                                                            \
	ATTR(GPU_DIRECT_RDMA_SUPPORTED, 0)                                                         \
	ATTR(GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS, 0)                                              \
	ATTR(GPU_DIRECT_RDMA_WRITES_ORDERING, 0)                                                   \
	ATTR(MEMPOOL_SUPPORTED_HANDLE_TYPES, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)             \
	ATTR(DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED, 0)                                             \
	ATTR(CAN_USE_64_BIT_STREAM_MEM_OPS, 1)                                                     \
	ATTR(CAN_USE_STREAM_WAIT_VALUE_NOR, 1)                                                     \
	ATTR(DMA_BUF_SUPPORTED, 0)                                                                 \
	ATTR(IPC_EVENT_SUPPORTED, 1)                                                               \
	ATTR(HANDLE_TYPE_FABRIC_SUPPORTED, 0)                                                      \
	ATTR(UNIFIED_FUNCTION_POINTERS, 1)                                                         \
	ATTR(NUMA_CONFIG, 0)                                                                       \
	ATTR(NUMA_ID, -1)                                                                          \
	ATTR(MULTICAST_SUPPORTED, 0)                                                               \
	ATTR(MPS_ENABLED, 0)                                                                       \
	ATTR(HOST_NUMA_ID, 0)                                                                      \
	ATTR(D3D12_CIG_SUPPORTED, 0)                                                               \
	ATTR(MEM_DECOMPRESS_ALGORITHM_MASK, 0)                                                     \
	ATTR(MEM_DECOMPRESS_MAXIMUM_LENGTH, 0)                                                     \
	ATTR(VULKAN_CIG_SUPPORTED, 0)                                                              \
	ATTR(HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0)                                     \
	ATTR(HOST_NUMA_MEMORY_POOLS_SUPPORTED, 0)                                                  \
	ATTR(HOST_NUMA_MULTINODE_IPC_SUPPORTED, 0)                                                 \
	ATTR(HOST_MEMORY_POOLS_SUPPORTED, 0)                                                       \
	ATTR(HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0)                                          \
	ATTR(HOST_ALLOC_DMA_BUF_SUPPORTED, 0)                                                      \
	ATTR(ONLY_PARTIAL_HOST_NATIVE_ATOMIC_SUPPORTED, 0)

/* Of the card: PROFILE(name, value), with p the profile and d the device. */
#define PROFILE_ATTRIBUTES(ATTR)                                                                   \
	ATTR(CLOCK_RATE, p->clock_khz)                                                             \
	ATTR(MULTIPROCESSOR_COUNT, p->sm_count)                                                    \
	ATTR(ECC_ENABLED, p->ecc)                                                                  \
	ATTR(PCI_BUS_ID, d->shared->pci_bus)                                                       \
	ATTR(MEMORY_CLOCK_RATE, p->memory_clock_khz)                                               \
	ATTR(GLOBAL_MEMORY_BUS_WIDTH, p->bus_bits)                                                 \
	ATTR(L2_CACHE_SIZE, p->l2_bytes)                                                           \
	ATTR(MAX_THREADS_PER_MULTIPROCESSOR, p->max_threads_per_sm)                                \
	ATTR(ASYNC_ENGINE_COUNT, p->copy_engines)                                                  \
	ATTR(COMPUTE_CAPABILITY_MAJOR, p->cc_major)                                                \
	ATTR(COMPUTE_CAPABILITY_MINOR, p->cc_minor)                                                \
	ATTR(MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, p->smem_per_sm_bytes)                           \
	ATTR(MULTI_GPU_BOARD_GROUP_ID, d->index)                                                   \
	ATTR(SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO, p->fp64_ratio)                                 \
	ATTR(MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, p->smem_optin_bytes)                               \
	ATTR(MAX_BLOCKS_PER_MULTIPROCESSOR, p->max_blocks_per_sm)                                  \
	ATTR(MAX_PERSISTING_L2_CACHE_SIZE, p->persisting_l2_bytes)                                 \
	ATTR(CLUSTER_LAUNCH, p->cc_major >= 9)                                                     \
	ATTR(MEM_SYNC_DOMAIN_COUNT, p->cc_major >= 9 ? 4 : 1)                                      \
	ATTR(TENSOR_MAP_ACCESS_SUPPORTED, p->cc_major >= 9)                                        \
	ATTR(GPU_PCI_DEVICE_ID, p->pci_device_id)                                                  \
	ATTR(GPU_PCI_SUBSYSTEM_ID, p->pci_subsystem_id)

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attr, CUdevice dev)
{
	const struct sim_profile *p;
	struct sim_device *d;

	SIM_ENTER();
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	d = sim_device_get(dev);
	if (!d)
		return CUDA_ERROR_INVALID_DEVICE;
	p = d->profile;
	switch ((int)attr) {
#define ATTR(name, x)                                                                              \
	case CU_DEVICE_ATTRIBUTE_##name:                                                           \
		*value = (int)(x);                                                                 \
		return CUDA_SUCCESS;
		COMMON_ATTRIBUTES(ATTR)
		PROFILE_ATTRIBUTES(ATTR)
#undef ATTR
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}
