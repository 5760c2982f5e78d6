defmodule Koma.ModelNode.Environment do
  @moduledoc """
  Which variables of the gateway's environment a model node gets: those that interpreters, numerical
  libraries, accelerators and downloads read, by name, and no others. So the secrets of the gateway (`KOMA_SECRET`,
  `KOMA_COOKIE`, the password in `KOMA_REDIS_URL`), and whatever else an operator's environment holds,
  are in no process that runs models. Pure.
  """

  # The system: where programs, files and languages are.
  # The way to a model hub.
  @names ~w(PATH HOME USER LOGNAME LANG LANGUAGE TZ TMPDIR TMP TEMP VIRTUAL_ENV) ++
           ~w(LD_LIBRARY_PATH LD_PRELOAD XDG_CACHE_HOME XDG_CONFIG_HOME XDG_RUNTIME_DIR) ++
           ~w(http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY) ++
           ~w(NO_PROXY SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE)

  # Interpreter and memory; threads; accelerators; libraries of models.
  @prefixes ~w(LC_ PYTHON MALLOC_) ++
              ~w(OMP_ GOMP_ KMP_ MKL_ OPENBLAS_ NUMEXPR_ BLIS_ DNNL_ ONEDNN_) ++
              ~w(CUDA_ CUDNN_ CUBLAS_ NVIDIA_ NCCL_ HIP_ HSA_ ROCR_ ROCM_ ZE_ SYCL_) ++
              ~w(HF_ HUGGINGFACE_ TORCH PYTORCH_ TRITON_ TRANSFORMERS_ DIFFUSERS_) ++
              ~w(TOKENIZERS_ SAFETENSORS_)

  @doc """
  Whether a model node gets the variable of this name.

      iex> for name <- ~w(PATH LC_ALL OMP_NUM_THREADS HF_TOKEN KOMA_SECRET AWS_SECRET_ACCESS_KEY),
      ...>     Koma.ModelNode.Environment.allowed?(name), do: name
      ["PATH", "LC_ALL", "OMP_NUM_THREADS", "HF_TOKEN"]
  """
  @spec allowed?(String.t()) :: boolean
  def allowed?(name), do: name in @names or String.starts_with?(name, @prefixes)

  @doc """
  What a port is to be told: that variables of `inherited` are not there, and the values of `own`.

      iex> Koma.ModelNode.Environment.for_port(%{"HOME" => "/root", "KOMA_KEYS" => "k"}, [{"TZ", "UTC"}])
      [{'KOMA_KEYS', false}, {'TZ', 'UTC'}]
  """
  @spec for_port(%{String.t() => String.t()}, [{String.t(), String.t()}]) ::
          [{charlist, charlist | false}]
  def for_port(inherited, own) do
    removed = for {name, _value} <- inherited, not allowed?(name), do: {to_charlist(name), false}
    removed ++ for {name, value} <- own, do: {to_charlist(name), to_charlist(value)}
  end
end
