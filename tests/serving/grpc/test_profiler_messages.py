"""The profiler's messages are TensorFlow's on the wire."""

from tensorflow.tsl.profiler.protobuf import profiler_options_pb2

from inkling.serving.proto import profiler_pb2


def test_options_have_tensorflows_names_numbers_and_types():
    theirs = profiler_options_pb2.ProfileOptions.DESCRIPTOR.fields_by_name
    for field in profiler_pb2.ProfileOptions.DESCRIPTOR.fields:
        assert (field.number, field.type) == (theirs[field.name].number, theirs[field.name].type)


def test_options_that_are_not_known_here_do_no_harm():
    options = profiler_options_pb2.ProfileOptions(host_tracer_level=3, repository_path="/traces", enable_hlo_proto=True)
    assert profiler_pb2.ProfileOptions.FromString(options.SerializeToString()).host_tracer_level == 3
