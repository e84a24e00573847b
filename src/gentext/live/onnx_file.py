"""One network as one ONNX file, as small as its weights allow and the same on every machine."""

import warnings
from pathlib import Path

import numpy as np
import torch

from gentext.live.network import Network

OPSET = 21  # GroupNormalization is wrong before 21; 23's fused attention hides the attention weights
WORTH_HALVING = 64  # smaller tensors stay float32: the Cast node would weigh more than it saves


def export_network(path: Path, network: Network) -> Path:
    """Write the network to `path` in ONNX, any batch size and any size of named dimensions, and return the path.

    Weights that float16 holds exactly, as the zoo's do, are stored so and cast to float32 when the file is loaded:
    half the download, and not one bit of the result changed. Raises ValueError where the network cannot be exported.
    """
    import onnx  # of the extra [book]: only the build exports

    modes = [(module, module.training) for module in network.module.modules()]
    parameter = next(network.module.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    batch = torch.export.Dim("batch", min=1, max=1024)
    axes = {name: torch.export.Dim(name, min=1, max=largest) for name, largest in network.axes.items()}
    dynamic = tuple(
        {0: batch} | {place: axes[axis] for place, axis in enumerate(shape, start=1) if isinstance(axis, str)}
        for shape in network.inputs.values()
    )
    network.module.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
            # In two steps: `torch.onnx.export` alone would quietly fix a batch size that the code has specialised
            # (by `len(tensor)`, say); `torch.export` refuses.
            traced = torch.export.export(
                network.module,
                tuple(tensor.to(device) for tensor in network.example(batch=3)),
                dynamic_shapes=dynamic,
            )
            program = torch.onnx.export(
                traced,
                dynamo=True,
                external_data=False,
                opset_version=OPSET,
                input_names=list(network.inputs),
                output_names=list(network.outputs),
                verbose=False,
            )
    except torch._dynamo.exc.UserError as error:
        raise ValueError(f"{path.stem} cannot be exported for any batch size: {str(error).splitlines()[0]}") from None
    finally:
        for module, mode in modes:
            module.training = mode
    assert program is not None  # None is for the exporter of old
    model = program.model_proto
    clean(model)
    halve(model)
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def clean(model) -> None:
    """Drop what the exporter notes about the machine and the source: stack traces, file names, version strings."""
    model.doc_string = ""
    model.producer_name, model.producer_version = "gentext", ""
    del model.metadata_props[:]
    graph = model.graph
    graph.name, graph.doc_string = "network", ""
    del graph.metadata_props[:]
    for entry in [*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info]:
        entry.doc_string = ""
        del entry.metadata_props[:]
    del graph.value_info[:]  # inferred again when the file is loaded


def halve(model) -> None:
    """Store as float16 every weight that loses nothing by it, followed by a Cast to float32."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < WORTH_HALVING or not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
