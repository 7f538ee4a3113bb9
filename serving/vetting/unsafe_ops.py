"""The operations that `--allowed_ops=safe` refuses, by their registered names, each kind with its reason.

A graph computes; what these do besides, with files, networks, Python and the process itself, no prediction needs. Nor
does it need programs within a graph that cannot be looked through, such as a compiled module or a graph that comes as a
string. A test holds the list against what TensorFlow has registered: an operation that names a file or an address, or
holds such a program, is in it or known there.
"""

import re

READS_FILES = "reads files"
WRITES_FILES = "writes files"
USES_NETWORK = "uses the network"
RUNS_PYTHON = "runs Python or other code by its name"
RULES_PROCESS = "ends or reconfigures the process"
RUNS_UNSEEN = "runs a program that cannot be looked through"
FORGES_HANDLES = "makes a resource's handle of data"

NAMES = {
    READS_FILES: """
        CSVDataset CSVDatasetV2 ExperimentalCSVDataset ExperimentalLMDBDataset ExperimentalMatchingFilesDataset
        ExperimentalSqlDataset FixedLengthRecordDataset FixedLengthRecordDatasetV2 FixedLengthRecordReader
        FixedLengthRecordReaderV2 GenerateVocabRemapping ImmutableConst InitializeTRTResource LMDBDataset LMDBReader
        ListSnapshotChunksDataset LoadAndRemapMatrix LoadDataset MatchingFiles MatchingFilesDataset ReadFile RecordInput
        SimpleMLLoadModelFromPath SimpleMLLoadModelFromPathWithHandle SimpleMLModelTrainerOnFile
        Skipgram SnapshotChunkDataset SnapshotDatasetReader SnapshotNestedDatasetReader SqlDataset TFRecordDataset
        TFRecordDatasetV2 TFRecordReader TFRecordReaderV2 TextLineDataset TextLineReader TextLineReaderV2
        WholeFileReader WholeFileReaderV2
        """,
    WRITES_FILES: """
        CacheDataset CacheDatasetV2 CalibrationStatisticsSaver CreateSummaryDbWriter CreateSummaryFileWriter
        DatasetToTFRecord DebugGradientIdentity DebugGradientRefIdentity DebugIdentity DebugIdentityV2 DebugIdentityV3
        DebugNanCount DebugNumericSummary DebugNumericSummaryV2 DistributedSave DumpTensor ExperimentalDatasetToTFRecord
        ImportEvent SaveDataset SaveDatasetV2 SerializeTRTResource SimpleMLModelTrainer SnapshotDataset
        SnapshotDatasetV2 WriteFile
        """,
    USES_NETWORK: """
        CollectiveAllToAllV2 CollectiveAllToAllV3 CollectiveAssignGroupV2 CollectiveBcastRecv CollectiveBcastRecvV2
        CollectiveBcastSend CollectiveBcastSendV2 CollectiveGather CollectiveGatherV2 CollectiveInitializeCommunicator
        CollectivePermute CollectiveReduce CollectiveReduceScatterV2 CollectiveReduceV2 CollectiveReduceV3
        ConnectTPUEmbeddingHosts DataServiceDataset DataServiceDatasetV2 DataServiceDatasetV3 DataServiceDatasetV4
        DTensorRestoreV2 NcclAllReduce NcclBroadcast NcclReduce Recv RegisterDataset RegisterDatasetV2 RemoteCall Rpc
        RpcCall RpcCheckStatus RpcClient RpcGetValue RpcServer RpcServerRegister RpcServerStart Send TryRpc
        WorkerHeartbeat _HostRecv _HostSend _NcclBroadcastRecv _NcclBroadcastSend _NcclReduceRecv _NcclReduceSend _Recv
        _Send
        """,
    RUNS_PYTHON: "EagerPyFunc PyFunc PyFuncStateless XlaCustomCall XlaCustomCallV2",
    RULES_PROCESS: """
        Abort ConfigureAndInitializeGlobalTPU ConfigureDistributedTPU ConfigureTPUEmbedding ConfigureTPUEmbeddingHost
        ConfigureTPUEmbeddingMemory DTensorSetGlobalTPUArray FileSystemSetConfiguration GcsConfigureBlockCache
        GcsConfigureCredentials ShutdownDistributedTPU ShutdownTPUSystem UpdateTaskIdAndGlobalCoreArray
        _ConfigureDistributedTPU _DisconnectHostFromDistributedTPUSystem _InitializeHostForDistributedTPU
        _SetGlobalTPUArray _ShutdownDistributedTPU _WaitForDistributedTPU
        """,
    RUNS_UNSEEN: """
        DatasetFromGraph DeserializeIterator MlirPassthroughOp RemoteFusedGraphExecute TRTEngineOp XlaCallModule
        _TPUCompileMlir _XlaHostComputeMlir
        """,
    FORGES_HANDLES: """
        IteratorFromStringHandle IteratorFromStringHandleV2 MultiDeviceIteratorFromStringHandle StubResourceHandleOp
        _VarHandlesOp _XlaAotOnlyVarHandleOp
        """,
}
UNSAFE = {name: reason for reason, names in NAMES.items() for name in names.split()}

# Refused where they name a file: the attribute, and what of it is harmless.
DESCRIPTORS = re.compile(rb"|local://|bytes://.*", re.DOTALL)
UNSAFE_ATTRIBUTES = {
    "DecodeProtoV2": ("descriptor_source", DESCRIPTORS, READS_FILES),
    "EncodeProto": ("descriptor_source", DESCRIPTORS, READS_FILES),
    "FixedUnigramCandidateSampler": ("vocab_file", re.compile(rb""), READS_FILES),
    "PrintV2": ("output_stream", re.compile(rb"stderr|stdout|log\((info|warning|error)\)"), WRITES_FILES),
}

# What makes tensors of data, with the attribute that is their type. Refused for handles, since one that is made up may
# be of any variable, that which holds a vocabulary's name too; and for variants, in which handles may be.
MAKES_TENSORS = {
    "Const": "dtype",
    "DeserializeManySparse": "dtype",
    "DeserializeSparse": "dtype",
    "HostConst": "dtype",
    "ParseTensor": "out_type",
    "RestoreV2": "dtypes",
    "_EagerConst": "T",
}

# A checkpoint is written by nobody who serves. Exports have these for others, and the server runs none of them.
WRITES_CHECKPOINTS = frozenset({"MergeV2Checkpoints", "Save", "SaveSlices", "SaveV2"})

# What loading a SavedModel is made of, each with the input that names its file: fine where that is the one which the
# loader gives, the version's own checkpoint or asset, and no other.
LOADS_FILES = {
    "InitializeTableFromTextFile": 1,
    "InitializeTableFromTextFileV2": 1,
    "Restore": 0,
    "RestoreSlice": 0,
    "RestoreV2": 0,
}
