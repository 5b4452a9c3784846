"""A faster start of brian2cuda projects: two passages of the C++ that brian2cuda has written are replaced.

Every batch of recordings is a separate process, which first builds all synapses. brian2cuda (1.0a7 and 1.0b1) there

* copies the synapses of every presynaptic neuron to the GPU one neuron at a time, each copy waited for. All of them go
  to one stretch of memory, one behind the other: here they are put together on the host and copied once.
* counts in a tree, with an entry per synapse, how often each pair of neurons is connected, for a warning about code
  without atomics. A connection of ours is a matrix, which has every pair once, and all its code uses atomics.

No preference turns either off. The change saves time and nothing else: where brian2cuda's text is not the expected one,
the project stays as it was written, with one warning.
"""

from __future__ import annotations

import functools
import warnings
from importlib import metadata
from pathlib import Path

#: Files of the project -> passages in them, and what to write in their place. Brian2 may number the files' names.
_PASSAGES: dict[str, dict[str, str]] = {
    "code_objects/before_run_*_push_spikes*.cu": {
        """
            CUDA_SAFE_CALL(
                    cudaMemcpy(h_ptr_d_ptr_synapse_ids_by_pre[i],
                        thrust::raw_pointer_cast(&(h_vec_synapse_ids_by_pre[i][0])),
                        sizeof(int32_t) * num_elements,
                        cudaMemcpyHostToDevice)
                    );
""": "",
        """
    }  // end for loop through connectivity matrix
""": """
    }  // end for loop through connectivity matrix
    {
        std::vector<int32_t> h_synapse_ids;
        h_synapse_ids.reserve(syn_N);
        for(int i = 0; i < num_pre_post_blocks; i++)
            for(int32_t id : h_vec_synapse_ids_by_pre[i])
                h_synapse_ids.push_back(id);
        CUDA_SAFE_CALL(
                cudaMemcpy(d_ptr_synapse_ids, h_synapse_ids.data(),
                    memory_synapse_ids, cudaMemcpyHostToDevice)
                );
    }
""",
    },
    "code_objects/*_synapses_create_array_codeobject*.cu": {
        """
std::map<std::pair<int32_t, int32_t>, int32_t> source_target_count;
for (int _i=0; _i<newsize; _i++)
""": """
std::map<std::pair<int32_t, int32_t>, int32_t> source_target_count;
for (int _i=0; false; _i++)
"""
    },
}


def shorten(project: Path, connections: int) -> None:
    """Replaces the passages in the files of a project that is not compiled yet, or warns and leaves all of them.

    Args:
        project: the project's folder.
        connections: how many of the network's have synapses: there must be as many files of each kind, at least.
    """
    changed = {}
    for pattern, passages in _PASSAGES.items():
        files = list(project.glob(pattern))
        if len(files) < connections:
            _warn(f"{len(files)} files {pattern} for {connections} connections")
            return
        for file in files:
            text = file.read_text()
            for expected, instead in passages.items():
                number = text.count(expected)
                if number != 1:
                    _warn(f"a passage is {number} times in a file {pattern}: {expected.strip().splitlines()[0]!r}")
                    return
                text = text.replace(expected, instead)
            changed[file] = text
    for file, text in changed.items():
        file.write_text(text)


@functools.cache
def _warn(found: str) -> None:
    """Warns once for each reason."""
    warnings.warn(
        f"brian2cuda {metadata.version('brian2cuda')} writes other code than 1.0a7 and 1.0b1 ({found}); its projects"
        " run as they are, which gives the same results but starts more slowly",
        stacklevel=4,
    )
