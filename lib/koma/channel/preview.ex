defmodule Koma.Channel.Preview do
  @moduledoc """
  A preview on its way to one client, in the form that the client asked for at join.

  As `base64` it is a JSON payload with the bytes in `data`; as `binary` it is
  `<<header_length::32, header::json, image::bytes>>`.
  """

  alias Koma.Job.Preview

  @forms ~w(base64 binary none)

  @enforce_keys [:form, :subject, :preview]
  defstruct [:form, :subject, :preview]

  @type form :: String.t()
  @type t :: %__MODULE__{form: form, subject: Preview.subject(), preview: Preview.t()}

  @doc "The names that a client may ask for; `none` means that previews are not sent."
  @spec forms() :: [form]
  def forms, do: @forms

  @doc "A preview of the job or pipeline `id`; `extra` are further fields of the header."
  @spec new(form, String.t(), Preview.t(), map) :: t
  def new(form, id, %Preview{} = preview, extra \\ %{}) do
    %__MODULE__{form: form, subject: {id, extra}, preview: preview}
  end

  @doc "The payload: JSON text, or bytes for a binary frame."
  @spec encode(t) :: {:json, iodata} | {:binary, iodata}
  def encode(%__MODULE__{form: "base64", subject: subject, preview: preview}) do
    {:json, Preview.payload(preview, subject)}
  end

  def encode(%__MODULE__{form: "binary", subject: subject, preview: preview}) do
    header = Preview.header(preview, subject)
    {:binary, [<<byte_size(header)::32>>, header, preview.data]}
  end
end
