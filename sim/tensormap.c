/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tensor maps: the arguments are checked and kept in the 128 bytes in a form of our own. What real
 * cards expect there is not published, and nothing here reads it but cuTensorMapReplaceAddress.
 * Source of the checks: CUDA driver API, "Tensor Map Object Management".
 */
#include <string.h>

#include "sim.h"
#include "base/banned.h"

#define MAX_RANK 5

struct map {
	uint64_t magic;
	uint64_t address;
	uint64_t dim[MAX_RANK];
	uint8_t type, rank, interleave, swizzle, promotion, fill, elem_stride[MAX_RANK];
	uint8_t im2col;
};

#define MAGIC 0x50414d5453494dull

_Static_assert(sizeof(struct map) <= sizeof(CUtensorMap), "does not fit");

static uint32_t type_bytes(CUtensorMapDataType type)
{
	switch ((int)type) {
	case CU_TENSOR_MAP_DATA_TYPE_UINT8:
	case CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN8B:
	case CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN16B:
	case CU_TENSOR_MAP_DATA_TYPE_16U6_ALIGN16B:
		return 1;
	case CU_TENSOR_MAP_DATA_TYPE_UINT16:
	case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
	case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
		return 2;
	case CU_TENSOR_MAP_DATA_TYPE_UINT32:
	case CU_TENSOR_MAP_DATA_TYPE_INT32:
	case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
	case CU_TENSOR_MAP_DATA_TYPE_FLOAT32_FTZ:
	case CU_TENSOR_MAP_DATA_TYPE_TFLOAT32:
	case CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ:
		return 4;
	case CU_TENSOR_MAP_DATA_TYPE_UINT64:
	case CU_TENSOR_MAP_DATA_TYPE_INT64:
	case CU_TENSOR_MAP_DATA_TYPE_FLOAT64:
		return 8;
	default:
		return 0;
	}
}

/* What both forms have in common. */
static CUresult encode(CUtensorMap *ret, CUtensorMapDataType type, cuuint32_t rank, void *address,
		       const cuuint64_t *dim, const cuuint64_t *strides,
		       const cuuint32_t *elem_strides, CUtensorMapInterleave interleave,
		       CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
		       CUtensorMapFloatOOBfill fill, bool im2col)
{
	uint64_t align = interleave == CU_TENSOR_MAP_INTERLEAVE_32B ? 32 : 16;
	struct map m = {.magic = MAGIC, .address = (uint64_t)(uintptr_t)address};

	if (!ret || (uintptr_t)ret % 64 || !address || m.address % align || !type_bytes(type) ||
	    rank == 0 || rank > MAX_RANK || !dim || !elem_strides || (rank > 1 && !strides) ||
	    (unsigned int)interleave > CU_TENSOR_MAP_INTERLEAVE_32B ||
	    (unsigned int)swizzle > CU_TENSOR_MAP_SWIZZLE_128B_ATOM_64B ||
	    (unsigned int)promotion > CU_TENSOR_MAP_L2_PROMOTION_L2_256B ||
	    (unsigned int)fill > CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA)
		return CUDA_ERROR_INVALID_VALUE;
	if (rank < 3 && (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || im2col))
		return CUDA_ERROR_INVALID_VALUE;
	for (cuuint32_t i = 0; i < rank; i++) {
		if (dim[i] == 0 || dim[i] > 1ull << 32 || elem_strides[i] == 0 ||
		    elem_strides[i] > 8)
			return CUDA_ERROR_INVALID_VALUE;
		if (i + 1 < rank && (strides[i] % align || strides[i] >= 1ull << 40))
			return CUDA_ERROR_INVALID_VALUE;
		m.dim[i] = dim[i];
		m.elem_stride[i] = (uint8_t)elem_strides[i];
	}
	m.type = (uint8_t)type;
	m.rank = (uint8_t)rank;
	m.interleave = (uint8_t)interleave;
	m.swizzle = (uint8_t)swizzle;
	m.promotion = (uint8_t)promotion;
	m.fill = (uint8_t)fill;
	m.im2col = im2col;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, &m, sizeof(m));
	return CUDA_SUCCESS;
}

/* Cards before Hopper have no unit for these. */
static CUresult check_card(void)
{
	struct sim_context *ctx = sim_current();

	return ctx && ctx->device->profile->cc_major < 9 ? CUDA_ERROR_NOT_SUPPORTED : CUDA_SUCCESS;
}

CUresult cuTensorMapEncodeTiled(CUtensorMap *tensor_map, CUtensorMapDataType tensor_data_type,
				cuuint32_t tensor_rank, void *global_address,
				const cuuint64_t *global_dim, const cuuint64_t *global_strides,
				const cuuint32_t *box_dim, const cuuint32_t *element_strides,
				CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
				CUtensorMapL2promotion l2_promotion,
				CUtensorMapFloatOOBfill oob_fill)
{
	CUresult r;

	SIM_ENTER();
	r = check_card();
	if (r != CUDA_SUCCESS)
		return r;
	for (cuuint32_t i = 0; box_dim && i < tensor_rank && i < MAX_RANK; i++) {
		if (box_dim[i] == 0 || box_dim[i] > 256)
			return CUDA_ERROR_INVALID_VALUE;
	}
	if (!box_dim)
		return CUDA_ERROR_INVALID_VALUE;
	return encode(tensor_map, tensor_data_type, tensor_rank, global_address, global_dim,
		      global_strides, element_strides, interleave, swizzle, l2_promotion, oob_fill,
		      false);
}

CUresult cuTensorMapEncodeIm2col(CUtensorMap *tensor_map, CUtensorMapDataType tensor_data_type,
				 cuuint32_t tensor_rank, void *global_address,
				 const cuuint64_t *global_dim, const cuuint64_t *global_strides,
				 const int *lower, const int *upper, cuuint32_t channels_per_pixel,
				 cuuint32_t pixels_per_column, const cuuint32_t *element_strides,
				 CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
				 CUtensorMapL2promotion l2_promotion,
				 CUtensorMapFloatOOBfill oob_fill)
{
	CUresult r;

	SIM_ENTER();
	r = check_card();
	if (r != CUDA_SUCCESS)
		return r;
	if (!lower || !upper || channels_per_pixel > 256 || pixels_per_column > 1024)
		return CUDA_ERROR_INVALID_VALUE;
	return encode(tensor_map, tensor_data_type, tensor_rank, global_address, global_dim,
		      global_strides, element_strides, interleave, swizzle, l2_promotion, oob_fill,
		      true);
}

CUresult cuTensorMapReplaceAddress(CUtensorMap *tensor_map, void *global_address)
{
	struct map m;

	SIM_ENTER();
	if (!tensor_map || !global_address || (uintptr_t)global_address % 16)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&m, tensor_map, sizeof(m));
	if (m.magic != MAGIC)
		return CUDA_ERROR_INVALID_VALUE;
	m.address = (uint64_t)(uintptr_t)global_address;
	memcpy(tensor_map, &m, sizeof(m));
	return CUDA_SUCCESS;
}
