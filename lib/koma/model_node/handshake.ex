defmodule Koma.ModelNode.Handshake do
  @moduledoc "The first messages: hello → ready → load → ready. Pure."

  alias Koma.ModelNode.Spec
  alias Koma.Wire.Messages
  alias Koma.Wire.Messages.{Hello, Load, Ready}

  alias Koma.Schema

  @type refusal :: {:refuse, code :: String.t(), reason :: String.t()}
  @typedoc "Starting the process again would not help."
  @type hopeless :: {:give_up, code :: String.t(), reason :: String.t()}

  @doc "What the gateway says first."
  @spec hello(Spec.t()) :: Hello.t()
  def hello(%Spec{name: name}), do: %Hello{protocol: Messages.protocol(), node: name}

  @doc """
  Answers the first `ready`: the process must speak our version, and the family must be installed
  there.
  """
  @spec greeted(Ready.t(), Spec.t()) :: {:load, Load.t()} | refusal | hopeless
  def greeted(%Ready{protocol: protocol} = ready, %Spec{} = spec) do
    cond do
      protocol != (ours = Messages.protocol()) ->
        {:refuse, "protocol_mismatch",
         "the model node speaks version #{protocol} of the protocol, the gateway #{ours}"}

      spec.family not in ready.families ->
        {:give_up, "load_failed", not_installed(spec.family, ready.families)}

      true ->
        {:load, load(spec)}
    end
  end

  defp not_installed(family, installed) do
    hint =
      case Schema.nearest(family, installed) do
        nil -> "a package that brings it must be installed with pip (docs/families.md)"
        nearest -> "did you mean #{nearest}?"
      end

    "no family #{inspect(family)} is installed, #{others(installed)}; #{hint}"
  end

  defp others([]), do: "nor any other"
  defp others(installed), do: "only #{Enum.join(installed, ", ")}"

  @doc "Checks the second `ready`: it must be the answer to our `load`."
  @spec loaded(Ready.t(), Spec.t()) :: :ok | refusal
  def loaded(%Ready{id: id, family: family}, %Spec{} = spec) do
    if id == load_id(spec) and family == spec.family,
      do: :ok,
      else:
        {:refuse, "protocol_error",
         "ready for #{inspect(id)} and #{inspect(family)} instead of our load"}
  end

  @doc "Asks for the checkpoint of the spec; the answer is another `ready`."
  @spec load(Spec.t()) :: Load.t()
  def load(%Spec{} = spec) do
    %Load{
      id: load_id(spec),
      family: spec.family,
      checkpoint: spec.checkpoint,
      device: spec.device,
      dtype: spec.dtype,
      slots: spec.slots,
      options: spec.options
    }
  end

  defp load_id(spec), do: "load-#{spec.name}"
end
