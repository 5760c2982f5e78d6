defmodule Koma.Queue.Ticket do
  @moduledoc """
  What a queue knows of a job: who asks (`key`), how much work it is (`Koma.Queue.Cost`), and
  its class:

    * `:apart`: peers died under it; it must have one to itself. Before all others.
    * `:alone`: model nodes died under it; it must have one to itself. Before all but those.
    * `:again`: its model node died; it has waited before. Before all but these.
    * `:interactive`, `:batch`: by weight, see `Koma.Queue.Line`.
  """

  alias Koma.Queue.Cost

  @enforce_keys [:id, :key, :class, :work]
  defstruct [:id, :key, :class, :work]

  @type class :: :apart | :alone | :again | :interactive | :batch
  @type id :: String.t()
  @type key :: String.t() | nil
  @type job :: %{
          required(:id) => id,
          required(:key) => key,
          required(:task) => String.t(),
          required(:size) => Cost.size(),
          optional(atom) => term
        }
  @type t :: %__MODULE__{id: id, key: key, class: class, work: Cost.work()}

  @doc "The ticket of a job, given as a map with its `id`, `key`, `task` and `size`."
  @spec new(job, class) :: t
  def new(%{id: id, key: key, task: task, size: size}, class) do
    %__MODULE__{id: id, key: key, class: class, work: {task, size}}
  end
end
