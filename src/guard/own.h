/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which hooks of the roles SUBMIT and REPORT are written by hand (the rest is made in submit.c),
 * and which WATCH symbols are hooked at all. tools/gen-coverage reads this file, too.
 */
#ifndef AQ_GUARD_OWN_H
#define AQ_GUARD_OWN_H

/* AQ__IS_OWN(sym): 1 where AQ__OWN_sym is defined below, else 0. */
#define AQ__IS_OWN(sym) AQ__IS_OWN_(AQ__OWN_##sym)
#define AQ__IS_OWN_(...) AQ__SECOND(__VA_ARGS__, 0, 0)
#define AQ__SECOND(a, b, ...) b

#define AQ__OWN_cuCtxRecordEvent ~, 1
#define AQ__OWN_cuCtxSynchronize ~, 1
#define AQ__OWN_cuCtxSynchronize_v2 ~, 1
#define AQ__OWN_cuCtxWaitEvent ~, 1
#define AQ__OWN_cuDeviceTotalMem ~, 1
#define AQ__OWN_cuDeviceTotalMem_v2 ~, 1
#define AQ__OWN_cuEventRecord ~, 1
#define AQ__OWN_cuEventRecordWithFlags ~, 1
#define AQ__OWN_cuEventRecordWithFlags_ptsz ~, 1
#define AQ__OWN_cuEventRecord_ptsz ~, 1
#define AQ__OWN_cuEventSynchronize ~, 1
#define AQ__OWN_cuGraphLaunch ~, 1
#define AQ__OWN_cuGraphLaunch_ptsz ~, 1
#define AQ__OWN_cuGreenCtxRecordEvent ~, 1
#define AQ__OWN_cuGreenCtxWaitEvent ~, 1
#define AQ__OWN_cuLaunchCooperativeKernelMultiDevice ~, 1
#define AQ__OWN_cuLaunchKernelEx ~, 1
#define AQ__OWN_cuLaunchKernelEx_ptsz ~, 1
#define AQ__OWN_cuMemGetInfo ~, 1
#define AQ__OWN_cuMemGetInfo_v2 ~, 1
#define AQ__OWN_cuStreamSynchronize ~, 1
#define AQ__OWN_cuStreamSynchronize_ptsz ~, 1
#define AQ__OWN_cuStreamWaitEvent ~, 1
#define AQ__OWN_cuStreamWaitEvent_ptsz ~, 1


/* Watched: they change what charging means, what may be done to a stream, or whether memory may
 * be moved; or they tell of memory that can. */
#define AQ__OWN_cuCtxEnablePeerAccess ~, 1
#define AQ__OWN_cuCtxSetLimit ~, 1
#define AQ__OWN_cuEventQuery ~, 1
#define AQ__OWN_cuGraphAddMemcpyNode ~, 1
#define AQ__OWN_cuGraphAddMemsetNode ~, 1
#define AQ__OWN_cuGraphExecMemcpyNodeSetParams ~, 1
#define AQ__OWN_cuGraphExecMemsetNodeSetParams ~, 1
#define AQ__OWN_cuGraphExecNodeSetParams ~, 1
#define AQ__OWN_cuGraphExecUpdate ~, 1
#define AQ__OWN_cuGraphExecUpdate_v2 ~, 1
#define AQ__OWN_cuGraphMemcpyNodeSetParams ~, 1
#define AQ__OWN_cuGraphMemsetNodeSetParams ~, 1
#define AQ__OWN_cuGraphNodeSetParams ~, 1
#define AQ__OWN_cuIpcGetMemHandle ~, 1
#define AQ__OWN_cuMemExportToShareableHandle ~, 1
#define AQ__OWN_cuMemGetAccess ~, 1
#define AQ__OWN_cuMemGetAddressRange_v2 ~, 1
#define AQ__OWN_cuMemGetHandleForAddressRange ~, 1
#define AQ__OWN_cuMemMap ~, 1
#define AQ__OWN_cuMemMapArrayAsync ~, 1
#define AQ__OWN_cuMemMapArrayAsync_ptsz ~, 1
#define AQ__OWN_cuMemPoolCreate ~, 1
#define AQ__OWN_cuMemRetainAllocationHandle ~, 1
#define AQ__OWN_cuMemSetAccess ~, 1
#define AQ__OWN_cuMemUnmap ~, 1
#define AQ__OWN_cuPointerGetAttribute ~, 1
#define AQ__OWN_cuPointerGetAttributes ~, 1
#define AQ__OWN_cuPointerSetAttribute ~, 1
#define AQ__OWN_cuStreamBeginCapture ~, 1
#define AQ__OWN_cuStreamBeginCaptureToGraph ~, 1
#define AQ__OWN_cuStreamBeginCaptureToGraph_ptsz ~, 1
#define AQ__OWN_cuStreamBeginCapture_ptsz ~, 1
#define AQ__OWN_cuStreamBeginCapture_v2 ~, 1
#define AQ__OWN_cuStreamBeginCapture_v2_ptsz ~, 1
#define AQ__OWN_cuStreamEndCapture ~, 1
#define AQ__OWN_cuStreamEndCapture_ptsz ~, 1
#define AQ__OWN_cuStreamQuery ~, 1
#define AQ__OWN_cuStreamQuery_ptsz ~, 1
#define AQ__OWN_cuTexObjectCreate ~, 1
#define AQ__OWN_cuTexRefSetAddress2D_v2 ~, 1
#define AQ__OWN_cuTexRefSetAddress2D_v3 ~, 1
#define AQ__OWN_cuTexRefSetAddress_v2 ~, 1

#endif /* AQ_GUARD_OWN_H */
