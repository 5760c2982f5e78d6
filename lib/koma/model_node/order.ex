defmodule Koma.ModelNode.Order do
  @moduledoc """
  What an operator may order of a model node, and when: pure.

    * `:drain`: take no more jobs; those that run finish. It holds, across deaths of the process,
      until `:resume`.
    * `:restart`: drain, then a new process. One that is not running is started at once.
    * `{:load, checkpoint}`: drain, then serve another checkpoint, in the same process.
    * `:unload`: drain, then let go of the checkpoint; the process stays.
    * `:resume`: take jobs again. Takes back whatever still waits for running jobs to finish.
  """

  alias Koma.Error

  @type t :: :drain | :restart | {:load, checkpoint :: String.t()} | :unload | :resume
  @type phase ::
          :waiting
          | :hello
          | :loading
          | :ready
          | :draining
          | :drained
          | :unloading
          | :unloaded
          | :killing

  # A checkpoint is loaded, and may have to be let go of when its jobs are done.
  @serving [:ready, :draining, :drained]
  # Its process answers.
  @alive @serving ++ [:unloaded]

  @doc "The phases in which jobs may run."
  @spec running?(phase) :: boolean
  def running?(phase), do: phase in [:ready, :draining]

  @doc "The phases in which the process answers pings."
  @spec alive?(phase) :: boolean
  def alive?(phase), do: phase in @alive

  @doc "Whether the model node is as an operator wants it, if not as it is configured."
  @spec as_wanted?(phase) :: boolean
  def as_wanted?(phase), do: phase in @alive

  @doc "Whether it can be obeyed now: `conflict` with the state that does not allow it."
  @spec check(t, phase, current :: t | nil) :: :ok | {:error, Error.t()}
  def check(order, phase, current) do
    cond do
      phase == :draining and current not in [nil, :drain] and order not in [current, :resume] ->
        refuse("it is about to #{words(current)} once its jobs are done", phase)

      phase in allowed(order) ->
        :ok

      true ->
        refuse("it cannot #{words(order)} while it is #{phase}", phase)
    end
  end

  defp allowed(:drain), do: @serving ++ [:waiting, :hello, :loading]
  defp allowed(:resume), do: @serving ++ [:waiting, :hello, :loading]
  defp allowed(:restart), do: @alive ++ [:waiting, :hello, :loading]
  defp allowed(:unload), do: @serving
  defp allowed({:load, _checkpoint}), do: @alive

  defp refuse(reason, phase) do
    {:error,
     Error.new("conflict", "The model node cannot do that now: #{reason}.", value: "#{phase}")}
  end

  defp words({:load, checkpoint}), do: "load #{checkpoint}"
  defp words(order), do: Atom.to_string(order)
end
