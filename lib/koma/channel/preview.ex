defmodule Koma.Channel.Preview do
  @moduledoc """
  A preview on its way to one client, in the form that the client asked for at join.

  As `base64` it is a JSON payload with the bytes in `data`; as `binary` it is
  `<<header_length::32, header::json, image::bytes>>`.
  """

  alias Koma.JSON

  @forms ~w(base64 binary none)

  @enforce_keys [:form, :header, :data]
  defstruct [:form, :header, :data]

  @type form :: String.t()
  @type t :: %__MODULE__{form: form, header: map, data: binary}

  @doc "The names that a client may ask for; `none` means that previews are not sent."
  @spec forms() :: [form]
  def forms, do: @forms

  @doc "A preview of the job `id`; `extra` are further fields of the header."
  @spec new(form, String.t(), Koma.Job.Preview.t(), map) :: t
  def new(form, id, %Koma.Job.Preview{} = preview, extra \\ %{}) do
    header = %{
      "id" => id,
      "step" => preview.step,
      "total" => preview.total,
      "media_type" => preview.media_type,
      "width" => preview.width,
      "height" => preview.height
    }

    %__MODULE__{form: form, header: Map.merge(header, extra), data: preview.data}
  end

  @doc "The payload: JSON text, or bytes for a binary frame."
  @spec encode(t) :: {:json, iodata} | {:binary, iodata}
  def encode(%__MODULE__{form: "base64"} = preview) do
    # The bytes are put into the JSON text as they are: base64 needs no escapes, and a JSON
    # encoder would look at each of them.
    <<"{", fields::binary>> = JSON.encode!(preview.header)
    {:json, [~s({"data":"), Base.encode64(preview.data), ~s(",), fields]}
  end

  def encode(%__MODULE__{form: "binary"} = preview) do
    header = JSON.encode!(preview.header)
    {:binary, [<<byte_size(header)::32>>, header, preview.data]}
  end
end
