"""The operations that `--allowed_ops=safe` refuses, by their registered names, each kind with its reason.

A graph computes; what these do besides, with files, networks, Python and the process itself, no prediction needs. A
test holds the list against what TensorFlow has registered: an operation that names a file or an address is in it or
known there.
"""

READS_FILES = "reads files"
WRITES_FILES = "writes files"
USES_NETWORK = "uses the network"
RUNS_PYTHON = "runs Python or other code by its name"
RULES_PROCESS = "ends or reconfigures the process"

NAMES = {
    READS_FILES: """
        CSVDataset CSVDatasetV2 ExperimentalCSVDataset ExperimentalLMDBDataset ExperimentalMatchingFilesDataset
        ExperimentalSqlDataset FixedLengthRecordDataset FixedLengthRecordDatasetV2 FixedLengthRecordReader
        FixedLengthRecordReaderV2 GenerateVocabRemapping ImmutableConst InitializeTRTResource LMDBDataset LMDBReader
        ListSnapshotChunksDataset LoadAndRemapMatrix LoadDataset MatchingFiles MatchingFilesDataset ReadFile RecordInput
        Skipgram SnapshotChunkDataset SnapshotDatasetReader SnapshotNestedDatasetReader SqlDataset TFRecordDataset
        TFRecordDatasetV2 TFRecordReader TFRecordReaderV2 TextLineDataset TextLineReader TextLineReaderV2
        WholeFileReader WholeFileReaderV2
        """,
    WRITES_FILES: """
        CacheDataset CacheDatasetV2 CalibrationStatisticsSaver CreateSummaryDbWriter CreateSummaryFileWriter
        DatasetToTFRecord DebugGradientIdentity DebugGradientRefIdentity DebugIdentity DebugIdentityV2 DebugIdentityV3
        DebugNanCount DebugNumericSummary DebugNumericSummaryV2 DistributedSave DumpTensor ExperimentalDatasetToTFRecord
        ImportEvent SaveDataset SaveDatasetV2 SerializeTRTResource SnapshotDataset SnapshotDatasetV2 WriteFile
        """,
    USES_NETWORK: """
        CollectiveAllToAllV2 CollectiveAllToAllV3 CollectiveAssignGroupV2 CollectiveBcastRecv CollectiveBcastRecvV2
        CollectiveBcastSend CollectiveBcastSendV2 CollectiveGather CollectiveGatherV2 CollectiveInitializeCommunicator
        CollectivePermute CollectiveReduce CollectiveReduceScatterV2 CollectiveReduceV2 CollectiveReduceV3
        DataServiceDataset DataServiceDatasetV2 DataServiceDatasetV3 DataServiceDatasetV4 DTensorRestoreV2 Recv
        RegisterDataset RegisterDatasetV2 RemoteCall Rpc RpcCall RpcCheckStatus RpcClient RpcGetValue RpcServer
        RpcServerRegister RpcServerStart Send TryRpc WorkerHeartbeat _HostRecv _HostSend _Recv _Send
        """,
    RUNS_PYTHON: "EagerPyFunc PyFunc PyFuncStateless XlaCustomCall XlaCustomCallV2",
    RULES_PROCESS: "Abort FileSystemSetConfiguration GcsConfigureBlockCache GcsConfigureCredentials",
}
UNSAFE = {name: reason for reason, names in NAMES.items() for name in names.split()}

# Refused where they name a file: the attribute, and what of it is harmless.
UNSAFE_ATTRIBUTES = {
    "FixedUnigramCandidateSampler": ("vocab_file", (b"",), READS_FILES),
    "PrintV2": ("output_stream", (b"stderr", b"stdout", b"log(info)", b"log(warning)", b"log(error)"), WRITES_FILES),
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
